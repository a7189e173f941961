// holdfast: the server. Reads its configuration, serves until SIGTERM or SIGINT, drains.

#include <pthread.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "server/config/config_loader.h"
#include "server/config/config_print.h"
#include "server/server.h"

namespace {

using holdfast::server::LoadConfig;
using holdfast::server::LoadResult;
using holdfast::server::Overrides;
using holdfast::server::Server;

struct Options {
  std::string config = "config/holdfast.yaml";
  std::string listen;
  std::string admin_listen;
  std::string data_dir;
  bool check = false;
  bool print_config = false;
};

Overrides OverridesOf(const Options& options) {
  Overrides overrides;
  if (!options.listen.empty()) overrides.emplace_back("listen", options.listen);
  if (!options.admin_listen.empty()) overrides.emplace_back("admin_listen", options.admin_listen);
  if (!options.data_dir.empty()) overrides.emplace_back("data_dir", options.data_dir);
  return overrides;
}

// All threads inherit the mask, so that main alone sees these signals, by sigwait. A shell starts
// background jobs with SIGINT ignored; here it counts.
sigset_t BlockSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::signal(SIGTERM, SIG_DFL);
  std::signal(SIGINT, SIG_DFL);
  std::signal(SIGPIPE, SIG_IGN);
  return signals;
}

void WaitForSignal(const sigset_t& signals) {
  int received = 0;
  sigwait(&signals, &received);
  // From here on a second signal ends the process at once, by its default action.
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

int Check(const LoadResult& loaded) {
  for (const std::string& warning : loaded.warnings) std::cerr << "warning: " << warning << "\n";
  if (loaded.config) {
    std::cout << "ok" << std::endl;
    return 0;
  }
  for (const auto& fault : loaded.faults) {
    std::cout << holdfast::server::Format(fault) << "\n";
  }
  std::cout.flush();
  return 1;
}

int Print(const LoadResult& loaded) {
  if (!loaded.config) return Check(loaded);
  std::cout << holdfast::server::PrintConfig(*loaded.config) << std::flush;
  return 0;
}

int Serve(LoadResult loaded, const Options& options) {
  if (!loaded.config) {
    for (const auto& fault : loaded.faults) {
      std::cerr << holdfast::server::Format(fault) << "\n";
    }
    return 1;
  }
  const sigset_t signals = BlockSignals();
  auto server =
      Server::Start(*std::move(loaded.config), options.config, std::move(loaded.warnings));
  if (!server.ok()) {
    std::cerr << "holdfast: " << server.status().message() << std::endl;
    return 1;
  }
  std::cout << "admin on " << (*server)->admin_address() << std::endl;
  std::cout << "listening on " << (*server)->address() << std::endl;
  WaitForSignal(signals);
  (*server)->Stop();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app(
      "Holdfast: a gRPC service in front of LLM providers that answers whatever state "
      "they are in");
  app.add_option("--config", options.config, "The configuration file")->capture_default_str();
  app.add_option("--listen", options.listen, "HOST:PORT to serve on; wins over the file");
  app.add_option("--admin-listen", options.admin_listen, "Loopback HOST:PORT of the admin API");
  app.add_option("--data-dir", options.data_dir, "Where the cache is kept");
  app.add_flag("--check", options.check, "Only read the configuration and tell what is wrong");
  app.add_flag("--print-config", options.print_config,
               "Only print the configuration with every default, secrets masked");
  app.set_version_flag("--version", "holdfast " HOLDFAST_VERSION);
  CLI11_PARSE(app, argc, argv);

  LoadResult loaded =
      LoadConfig(options.config, holdfast::server::ProcessEnvironment(), OverridesOf(options));
  if (options.print_config) return Print(loaded);
  return options.check ? Check(loaded) : Serve(std::move(loaded), options);
}
