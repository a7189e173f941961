// Asks Holdfast one question and shows the answer as it is made, and how it came to be.
//
//	go run ./stream localhost:50051 "Why is the sky blue?"
package main

import (
	"context"
	"fmt"
	"io"
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
	connection, err := grpc.NewClient(server, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	stream, err := api.NewGenerateServiceClient(connection).GenerateStream(ctx, &api.GenerateRequest{
		Messages: []*api.Message{{Role: "user", Content: question}},
	})
	if err != nil {
		log.Fatal(err)
	}
	text := ""
	var answer *api.GenerateResponse
	for {
		event, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			log.Fatalf("no answer: %s: %s", status.Code(err), status.Convert(err).Message())
		}
		switch e := event.Event.(type) {
		case *api.GenerateStreamResponse_Started:
			fmt.Println("started:    ", e.Started.GetServedBy().GetModel())
		case *api.GenerateStreamResponse_Delta:
			text += e.Delta.GetText()
			fmt.Print(e.Delta.GetText())
		case *api.GenerateStreamResponse_Continued:
			fmt.Println("\ncontinued:  ", e.Continued.GetServedBy().GetModel())
		case *api.GenerateStreamResponse_Reset_:
			// A program with a screen of its own would take the text away from it.
			text = ""
			fmt.Println("\nreset:      ", e.Reset_.GetServedBy().GetModel())
		case *api.GenerateStreamResponse_Finished:
			answer = e.Finished
		}
	}

	fmt.Println("\nanswer:     ", text)
	fmt.Println("degradation:", answer.Degradation)
	fmt.Printf("served by:   %s/%s\n", answer.ServedBy.GetProvider(), answer.ServedBy.GetModel())
	if answer.Notice != "" {
		fmt.Println("notice:     ", answer.Notice)
	}
}
