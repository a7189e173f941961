#pragma once

// Which answers may serve which requests. A scope is everything that shapes an answer but the last
// question itself: tenant, route, system prompt, tools, response format and the earlier turns.
// Answers are stored, indexed and found inside one scope only.
//
// A scope's key is
//
//   length(tenant) tenant  length(route) route  SHA-256(all the rest)
//
// with lengths of 4 bytes, big-endian. Tenant and route stand in plain, so "all of a tenant" is a
// prefix, and no collision of the hash can cross from one tenant or route to another. No key is a
// prefix of another one. Plain functions, safe from any thread.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "core/patterns.h"
#include "core/request.h"

namespace holdfast::cache {

// What a key is made of, copied from the request: cheap enough for a loop's thread, while the
// hashing, which is not for a long history, waits for the pool.
struct ScopeSource {
  std::string tenant;
  std::string route;
  std::string rest;  // an unambiguous serialisation: every field has its length before it
};

// What `ignored` matches in system prompts does not tell scopes apart.
ScopeSource DescribeScope(const core::Request& request, const core::Patterns& ignored = {});
std::string ScopeKey(const ScopeSource& source);

// The beginning that the keys of a tenant share; with `route`, those of one of its routes.
std::string TenantPrefix(std::string_view tenant);
std::string RoutePrefix(std::string_view tenant, std::string_view route);

struct ParsedScope {
  std::string_view tenant;
  std::string_view route;
  size_t size = 0;  // of the scope's key, at the beginning of what was parsed
};

// Reads a scope's key at the beginning of `key`; none if there is no whole one.
std::optional<ParsedScope> ParseScope(std::string_view key);

// SHA-256, 32 bytes.
std::string Sha256(std::string_view data);

}  // namespace holdfast::cache
