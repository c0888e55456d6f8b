// The configuration of a machine: bhyve_config(5)'s tree of dotted keys. Threads: one until freeze(), then any for reading.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve {

// A key is words joined by dots ("pci.0.4.0.path"); a key that has a value has no keys below it. In a value "%(other.key)" stands for
// the value of another key and "%%" for a percent sign; both are replaced when the value is asked for.
class ConfigTree {
public:
    // EINVAL: a malformed key, control characters in the value, a key that is a node, or a node above that is a value. EROFS: frozen.
    // An empty value is allowed here (not in assign()).
    Result<void> set(std::string_view key, std::string_view value);
    Result<void> set_boolean(std::string_view key, bool value) { return set(key, value ? "true" : "false"); }
    Result<void> set_integer(std::string_view key, i64 value) { return set(key, std::to_string(value)); }
    // "key=value", as -o takes it and as a line of a file is: EINVAL when there is no '=', or the value is empty.
    Result<void> assign(std::string_view text);
    // Removes the key, or the node with all below it; nothing there: fine. EROFS: frozen.
    Result<void> erase(std::string_view key);
    // Lines "key=value"; empty ones and those that begin with '#' are skipped. Errors begin with "PATH:LINE: ".
    Result<void> load_file(std::string const& path);
    Result<void> load_text(std::string_view text, std::string const& object);

    // As it was set, nothing replaced.
    std::optional<std::string> raw(std::string_view key) const;
    bool has(std::string_view key) const { return raw(key).has_value(); }
    // Replaced. Errors (EINVAL, naming the key): "%(" without ")", a key without a value, a value that refers to itself.
    Result<std::optional<std::string>> value(std::string_view key) const;
    Result<std::string> value_or(std::string_view key, std::string_view otherwise) const;
    // true/on/yes/1 and false/off/no/0, in any case; else EINVAL.
    Result<bool> boolean_or(std::string_view key, bool otherwise) const;
    // Decimal, 0x hexadecimal or 0 octal, signed; else EINVAL.
    Result<i64> integer_or(std::string_view key, i64 otherwise) const;
    // A number of bytes with an optional suffix B, K, M, G or T (either case); else EINVAL.
    Result<u64> size_or(std::string_view key, u64 otherwise) const;

    // The words directly below a node ("" is the root): numbers by value, then the others by name.
    std::vector<std::string> children(std::string_view node) const;
    bool has_node(std::string_view node) const { return !children(node).empty(); }

    // All of it as "key=value" lines sorted by key, as config.dump prints and load_text() reads.
    std::string dump() const;
    // Checks that every value can be replaced; from then on set() and erase() fail.
    Result<void> freeze();
    bool frozen() const { return m_frozen; }

private:
    Result<std::string> expand(std::string_view key, std::string const& value, unsigned depth) const;

    std::map<std::string, std::string, std::less<>> m_values; // full key -> value
    bool m_frozen = false;
};

// A size as ConfigTree::size_or() reads it; `object` is what it belongs to, for the message.
Result<u64> parse_size(std::string_view text, std::string_view object);

} // namespace anyhyve
