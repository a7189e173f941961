// Asks Holdfast one question and shows the answer and how it came to be.
//
//	go run . localhost:50051 "Why is the sky blue?"
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	api "holdfast.example/client/holdfastv1"
)

func main() {
	server, question := os.Args[1], os.Args[2]
	// One connection serves a whole program, from all its goroutines.
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	// The deadline is what Holdfast plans its retries and fallbacks by: say what you can wait.
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	answer, err := api.NewGenerateServiceClient(connection).Generate(ctx, &api.GenerateRequest{
		Messages: []*api.Message{{Role: "user", Content: question}},
	})
	if err != nil {
		// Not even a degraded answer; docs/errors.md lists the reasons. Holdfast has retried already.
		log.Fatalf("no answer: %s: %s", status.Code(err), status.Convert(err).Message())
	}

	fmt.Println(answer.Message.Content)
	// A degraded answer is an answer: show it, and say so if it is stale or partial.
	fmt.Println("degradation:", answer.Degradation)
	fmt.Printf("served by:   %s/%s\n", answer.ServedBy.GetProvider(), answer.ServedBy.GetModel())
	if answer.Notice != "" {
		fmt.Println("notice:     ", answer.Notice)
	}
	for _, attempt := range answer.Attempts {
		fmt.Printf("attempt:     %s/%s: %s\n", attempt.Target.Provider, attempt.Target.Model, attempt.Outcome)
	}
}
