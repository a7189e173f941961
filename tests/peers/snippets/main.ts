// docs/streaming.md's loop in a program. See ../streaming_peer.py.
import { credentials, Metadata, ServiceError } from "@grpc/grpc-js";
import {
  GenerateRequest,
  GenerateResponse,
  GenerateServiceClient,
  GenerateStreamResponse,
  Message,
  ToolCall,
} from "./holdfast/v1/generate";

function show(response: GenerateResponse) {
  console.log(JSON.stringify(GenerateResponse.toJSON(response)));
}

async function read(client: GenerateServiceClient, request: GenerateRequest) {
  // SNIPPET
  if (!finished) throw new Error("no finished event");
  show(finished);
  const message = Message.create({ role: "assistant" });
  if (calls.size === 0) {
    message.content = text;
  } else {
    if (text) message.parts.push({ text });
    for (const index of [...calls.keys()].sort()) message.parts.push({ toolCall: calls.get(index) });
  }
  show({ ...finished, message });
}

async function main(server: string, request: string) {
  const client = new GenerateServiceClient(server, credentials.createInsecure());
  try {
    await read(client, GenerateRequest.fromJSON(JSON.parse(request)));
  } catch (error) {
    console.log("error", (error as ServiceError).code);
  }
  client.close();
}

void main(process.argv[2]!, process.argv[3]!);
