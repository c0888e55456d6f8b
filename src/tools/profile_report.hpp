// A machine's profile as a text for people and as JSON. Threads: any.
#pragma once

#include <string>

#include "tools/json_writer.hpp"
#include "vmm/profile.hpp"

namespace anyhyve::tools {

std::string profile_text(Profile const&);
// Its members, in an object that the caller has begun.
void write_profile(JsonWriter&, Profile const&);
std::string profile_json(Profile const&);

} // namespace anyhyve::tools
