// Options of a device as its user writes them: "path,ro,ser=disk0".
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "base/integer.hpp"
#include "base/result.hpp"

namespace anyhyve {

struct DeviceOption {
    std::string_view name;
    std::string_view help;
};

// One row of `-s help` and of the device table.
struct DeviceInfo {
    std::string_view name;
    std::string_view first; // the option that a first item without "=" means ("path"), or ""
    std::span<DeviceOption const> options;
    std::string_view help;
};

// The settings of one device, by option name. Values are as in bhyve_config(5): booleans are true/on/yes/1 and false/off/no/0.
class DeviceOptions {
public:
    DeviceOptions() = default;
    explicit DeviceOptions(std::map<std::string, std::string> values) : m_values(std::move(values)) {}

    // Takes a comma list apart: a bare name is true, and the first item belongs to `first` when that is not empty and the item has
    // no "=" before its first "/".
    static DeviceOptions parse(std::string_view list, std::string_view first = {});

    bool has(std::string const& name) const { return m_values.contains(name); }
    std::string text(std::string const& name, std::string const& otherwise = {}) const;
    Result<bool> boolean(std::string const& name, bool otherwise) const;
    // Decimal, or hexadecimal after 0x; from `least` to `most`.
    Result<u64> number(std::string const& name, u64 otherwise, u64 least, u64 most) const;

    void set(std::string const& name, std::string value) { m_values[name] = std::move(value); }
    std::map<std::string, std::string> const& values() const { return m_values; }
    // The first option that `info` does not list, or "".
    std::string unknown(DeviceInfo const& info) const;

private:
    std::map<std::string, std::string> m_values;
};

} // namespace anyhyve
