// docs/streaming.md's loop in a program. See ../streaming_peer.py.
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
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	api "holdfast.example/client/holdfastv1"
)

func read(ctx context.Context, client api.GenerateServiceClient, request *api.GenerateRequest) error {
	var finished *api.GenerateResponse
	// SNIPPET
}

func show(finished *api.GenerateResponse, text string, calls map[int32]*api.ToolCall) error {
	print(finished)
	message := &api.Message{Role: "assistant"}
	if len(calls) == 0 {
		message.Content = text
	} else {
		if text != "" {
			message.Parts = append(message.Parts, &api.Part{Kind: &api.Part_Text{Text: text}})
		}
		for index := int32(0); calls[index] != nil; index++ {
			message.Parts = append(message.Parts, &api.Part{Kind: &api.Part_ToolCall{ToolCall: calls[index]}})
		}
	}
	assembled := proto.Clone(finished).(*api.GenerateResponse)
	assembled.Message = message
	print(assembled)
	return nil
}

func print(response *api.GenerateResponse) {
	line, err := protojson.Marshal(response)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	request := &api.GenerateRequest{}
	if err := protojson.Unmarshal([]byte(os.Args[2]), request); err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := read(ctx, api.NewGenerateServiceClient(connection), request); err != nil {
		fmt.Println("error", int(status.Code(err)))
	}
}
