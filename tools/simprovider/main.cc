#include <csignal>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "tools/simprovider/simulator.h"

namespace {

using simprovider::HttpServer;
using simprovider::Options;
using simprovider::ParsedOptions;
using simprovider::Simulator;

int Fail(const std::string& reason) {
  std::fprintf(stderr, "simprovider: %s\n", reason.c_str());
  return 2;
}

bool ReadFile(const std::string& path, std::string& text) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  text = content.str();
  return file.good();
}

int Run(const Options& options, const sigset_t& stop_signals) {
  Simulator simulator(options);
  HttpServer server(simulator);
  simulator.faults().OnRefuse([&server](double seconds) { server.RefuseFor(seconds); });
  std::string error;
  if (!server.Start(options.listen, options.threads, error)) {
    return Fail("cannot listen on " + options.listen + ": " + error);
  }
  if (!options.faults_file.empty()) {
    std::string text;
    if (!ReadFile(options.faults_file, text)) return Fail("cannot read " + options.faults_file);
    if (!simulator.LoadFaults(text, error)) return Fail(options.faults_file + ": " + error);
  }
  std::printf("listening on %s:%d\n", server.host().c_str(), server.port());
  std::fflush(stdout);
  int signal = 0;
  sigwait(&stop_signals, &signal);
  server.Stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::string error;
  switch (ParseOptions(std::vector<std::string>(argv + 1, argv + argc), options, error)) {
    case ParsedOptions::kHelp:
      std::fputs(simprovider::HelpText().c_str(), stdout);
      return 0;
    case ParsedOptions::kBad:
      return Fail(error + "; see --help");
    case ParsedOptions::kRun:
      break;
  }
  std::signal(SIGPIPE, SIG_IGN);
  sigset_t stop_signals;
  sigemptyset(&stop_signals);
  sigaddset(&stop_signals, SIGINT);
  sigaddset(&stop_signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stop_signals, nullptr);
  return Run(options, stop_signals);
}
