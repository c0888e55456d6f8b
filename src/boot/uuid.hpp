// Identifiers of 16 bytes for machines, and the MD5 digest that bhyve derives names from (RFC 4122, RFC 1321).
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve::boot {

using Md5Digest = std::array<u8, 16>;
Md5Digest md5(std::string_view);

// In the order in which the text form has its digits.
struct Uuid {
    std::array<u8, 16> bytes {};

    static Result<Uuid> parse(std::string_view text);
    // The same for the same machine on the same host: version 3 over the machine's name and the host's.
    static Uuid from_names(std::string_view machine_name, std::string_view host_name);
    std::string text() const;
    bool operator==(Uuid const&) const = default;
};

// from_names() with this host's name.
Uuid uuid_from_name(std::string_view machine_name);

} // namespace anyhyve::boot
