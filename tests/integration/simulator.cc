#include "tests/integration/simulator.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gtest/gtest.h"

namespace holdfast::testing {

Simulator::Simulator(const std::filesystem::path& directory, std::vector<std::string> options) {
  std::vector<std::string> command = {Binary("simprovider"), "--listen", "127.0.0.1:0"};
  command.insert(command.end(), options.begin(), options.end());
  process_ = std::make_unique<Process>(command, Process::Environment(), directory, "simulator");
  address_ = process_->WaitForLine("listening on ").value_or("127.0.0.1:0");
}

void Simulator::Break(const std::string& model, const std::string& fault) {
  EXPECT_EQ(Call("PUT", "/sim/faults/" + model, fault), "{\"ok\":true}\n") << fault;
}

void Simulator::Heal() { Call("DELETE", "/sim/faults"); }

Json Simulator::Attempts(const std::string& model) {
  const Json attempts = Json::parse(Call("GET", "/sim/attempts?model=" + model), nullptr, false);
  EXPECT_TRUE(attempts.is_array());
  return attempts;
}

int Simulator::CountOf(const std::string& model) {
  return static_cast<int>(Attempts(model).size());
}

void Simulator::ForgetAttempts() { Call("DELETE", "/sim/attempts"); }

// A fault of kind "refuse" closes the port for its time, also for this path.
std::string Simulator::Call(const std::string& method, const std::string& path,
                            const std::string& body) {
  const std::string request = method + " " + path +
                              " HTTP/1.1\r\nHost: simulator\r\nConnection: close\r\n"
                              "Content-Length: " +
                              std::to_string(body.size()) + "\r\n\r\n" + body;
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(std::stoi(port())));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int fd = -1;
  const auto connected = [&] {
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return true;
    close(fd);
    return false;
  };
  if (!Eventually(connected)) {
    ADD_FAILURE() << "the simulated provider is gone";
    return "";
  }
  EXPECT_EQ(send(fd, request.data(), request.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(request.size()));
  std::string reply;
  char buffer[65536];
  for (ssize_t n = 0; (n = read(fd, buffer, sizeof(buffer))) > 0;) {
    reply.append(buffer, static_cast<size_t>(n));
  }
  close(fd);
  const size_t end = reply.find("\r\n\r\n");
  return end == std::string::npos ? "" : reply.substr(end + 4);
}

}  // namespace holdfast::testing
