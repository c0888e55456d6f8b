// Parsing of device options.
#include "device/pci/device_options.hpp"

#include <algorithm>
#include <charconv>

namespace anyhyve {

DeviceOptions DeviceOptions::parse(std::string_view list, std::string_view first)
{
    DeviceOptions options;
    bool at_first = true;
    while (!list.empty()) {
        auto const comma = list.find(',');
        auto const item = list.substr(0, comma);
        list = comma == std::string_view::npos ? std::string_view {} : list.substr(comma + 1);
        auto const equals = item.find('=');
        bool const is_path = at_first && !first.empty() && item.find('/') < equals;
        if (at_first && !first.empty() && (equals == std::string_view::npos || is_path))
            options.m_values[std::string(first)] = item;
        else if (equals != std::string_view::npos)
            options.m_values[std::string(item.substr(0, equals))] = item.substr(equals + 1);
        else if (!item.empty())
            options.m_values[std::string(item)] = "true";
        at_first = false;
    }
    return options;
}

std::string DeviceOptions::text(std::string const& name, std::string const& otherwise) const
{
    auto const found = m_values.find(name);
    return found == m_values.end() ? otherwise : found->second;
}

Result<bool> DeviceOptions::boolean(std::string const& name, bool otherwise) const
{
    auto const found = m_values.find(name);
    if (found == m_values.end())
        return otherwise;
    std::string value = found->second;
    std::transform(value.begin(), value.end(), value.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    if (value == "true" || value == "on" || value == "yes" || value == "1")
        return true;
    if (value == "false" || value == "off" || value == "no" || value == "0")
        return false;
    return make_error(EINVAL, "option {}={}: expected true or false", name, found->second);
}

Result<u64> DeviceOptions::number(std::string const& name, u64 otherwise, u64 least, u64 most) const
{
    auto const found = m_values.find(name);
    if (found == m_values.end())
        return otherwise;
    std::string_view digits = found->second;
    int base = 10;
    if (digits.starts_with("0x") || digits.starts_with("0X")) {
        digits.remove_prefix(2);
        base = 16;
    }
    u64 value = 0;
    auto const [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (error != std::errc {} || end != digits.data() + digits.size() || value < least || value > most)
        return make_error(EINVAL, "option {}={}: expected a number from {} to {}", name, found->second, least, most);
    return value;
}

std::string DeviceOptions::unknown(DeviceInfo const& info) const
{
    for (auto const& [name, value] : m_values) {
        bool const known = std::any_of(info.options.begin(), info.options.end(), [&](auto const& option) { return option.name == name; });
        if (!known)
            return name;
    }
    return {};
}

} // namespace anyhyve
