#pragma once

// The simulated provider as a child process: faults at run time, and the log of what reached it.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/integration/process.h"

namespace holdfast::testing {

using Json = nlohmann::json;

class Simulator {
 public:
  explicit Simulator(const std::filesystem::path& directory, std::vector<std::string> options = {});

  std::string url() const { return "http://" + address_; }
  std::string port() const { return address_.substr(address_.rfind(':') + 1); }

  // One fault or a list of them, as tools/simprovider/README.md writes them.
  void Break(const std::string& model, const std::string& fault);
  void Heal();  // no faults
  // What has reached `model` ("" = any), oldest first.
  Json Attempts(const std::string& model = "");
  int CountOf(const std::string& model = "");
  void ForgetAttempts();

 private:
  std::string Call(const std::string& method, const std::string& path,
                   const std::string& body = "");

  std::unique_ptr<Process> process_;
  std::string address_;
};

}  // namespace holdfast::testing
