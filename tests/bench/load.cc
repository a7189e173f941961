// The benchmark's load, for HTTP and gRPC alike: so many connections, so many requests in flight
// over them, each with a question of its own, the next one sent when an answer has come. Every
// byte of every answer is checked. One thread. Prints one line of JSON.
//
//   bench_load http --port N --path /v1/chat/completions --connections 32 --seconds 3
//   bench_load grpc --port N --connections 32 --in-flight 32 --seconds 3
//   bench_load stream --port N --connections 32 --in-flight 5000 --tokens 20 --once
//
// With --tokens each answer is so many tokens that say when they were sent (http and stream).
// --once sends each in-flight request once and waits for all, however long it takes.

#include "CLI/CLI.hpp"
#include "tests/bench/grpc_load.h"
#include "tests/bench/http_load.h"
#include "tests/bench/score.h"
#include "tests/bench/sockets.h"

int main(int argc, char** argv) {
  using namespace holdfast::bench;
  Options options;
  CLI::App app("The benchmark's load");
  app.require_subcommand(1);
  CLI::App& http = *app.add_subcommand("http", "Streamed chat completions");
  CLI::App& grpc = *app.add_subcommand("grpc", "holdfast.v1.GenerateService/Generate");
  CLI::App& stream = *app.add_subcommand("stream", "holdfast.v1.GenerateService/GenerateStream");
  for (CLI::App* sub : {&http, &grpc, &stream}) {
    sub->add_option("--port", options.port, "On 127.0.0.1")->required();
    sub->add_option("--connections", options.connections, "Connections");
    sub->add_option("--warmup", options.warmup_seconds, "Seconds that are not counted");
    sub->add_option("--seconds", options.seconds, "Seconds that are counted");
    sub->add_option("--bytes", options.bytes, "Length of an answer's text");
    sub->add_option("--first", options.first_question, "Number of the first question");
  }
  http.add_option("--path", options.path, "Where to");
  http.add_option("--model", options.model, "The model to ask for");
  http.add_option("--header", options.headers, "More headers, each as NAME: VALUE");
  for (CLI::App* sub : {&grpc, &stream}) {
    sub->add_option("--in-flight", options.in_flight, "Requests at once over all connections");
    sub->add_flag("--once", options.once, "Each in-flight request once");
  }
  for (CLI::App* sub : {&http, &stream}) {
    sub->add_option("--tokens", options.tokens, "An answer is so many tokens");
  }
  CLI11_PARSE(app, argc, argv);

  AllowManyFiles();
  Score score(options);
  if (http.parsed()) {
    HttpLoad(options, score).Run();
  } else {
    GrpcLoad(options, score, stream.parsed()).Run();
  }
  score.Print();
}
