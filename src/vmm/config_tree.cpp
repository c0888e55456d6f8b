// The tree is a flat sorted map: all keys below the node "a" lie between "a." and "a/".
#include "vmm/config_tree.hpp"

#include <fcntl.h>

#include <algorithm>
#include <charconv>

#include "host/fd.hpp"
#include "host/file_io.hpp"

namespace anyhyve {

static constexpr u64 s_longest_file = 4 * MiB;
static constexpr std::size_t s_longest_key = 1024;
static constexpr std::size_t s_longest_value = 64 * 1024;
static constexpr unsigned s_deepest_reference = 16;

static bool is_control(char c)
{
    return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

static Result<void> check_key(std::string_view key)
{
    bool good = !key.empty() && key.size() <= s_longest_key && key.front() != '.' && key.back() != '.' && key.find("..") == key.npos;
    good = good && std::none_of(key.begin(), key.end(), [](char c) { return is_control(c) || c == ' ' || c == '='; });
    if (!good)
        return make_error(EINVAL, "'{}' is not the name of a configuration variable", key.substr(0, 80));
    return {};
}

Result<void> ConfigTree::set(std::string_view key, std::string_view value)
{
    if (m_frozen)
        return make_error(EROFS, "{}: the configuration can no longer be changed", key);
    TRY(check_key(key));
    if (value.size() > s_longest_value || std::any_of(value.begin(), value.end(), [](char c) { return is_control(c) && c != '\t'; }))
        return make_error(EINVAL, "{}: the value has control characters or is longer than {} bytes", key, s_longest_value);
    if (has_node(key))
        return make_error(EINVAL, "{}: this variable has others below it, so it cannot have a value", key);
    for (std::size_t dot = key.find('.'); dot != key.npos; dot = key.find('.', dot + 1))
        if (has(key.substr(0, dot)))
            return make_error(EINVAL, "{}: {} has a value, so nothing can be below it", key, key.substr(0, dot));
    m_values.insert_or_assign(std::string(key), std::string(value));
    return {};
}

Result<void> ConfigTree::assign(std::string_view text)
{
    std::size_t const equals = text.find('=');
    if (equals == text.npos || equals + 1 == text.size())
        return make_error(EINVAL, "'{}' is not of the form variable=value", text.substr(0, 200));
    return set(text.substr(0, equals), text.substr(equals + 1));
}

Result<void> ConfigTree::erase(std::string_view key)
{
    if (m_frozen)
        return make_error(EROFS, "{}: the configuration can no longer be changed", key);
    std::string const name(key);
    m_values.erase(name);
    m_values.erase(m_values.lower_bound(name + "."), m_values.lower_bound(name + "/"));
    return {};
}

Result<void> ConfigTree::load_text(std::string_view text, std::string const& object)
{
    unsigned number = 0;
    while (!text.empty()) {
        ++number;
        std::size_t const end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (!line.empty() && line.back() == '\r')
            line.remove_suffix(1);
        if (line.empty() || line.front() == '#')
            continue;
        auto const set_it = assign(line);
        if (!set_it.ok())
            return make_error(set_it.error().code(), "{}:{}: {}", object, number, set_it.error().message());
    }
    return {};
}

Result<void> ConfigTree::load_file(std::string const& path)
{
    host::Fd const file(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid())
        return Error::from_errno(errno, path);
    auto const bytes = TRY(host::read_to_end(file.get(), s_longest_file, path));
    return load_text(std::string(bytes.begin(), bytes.end()), path);
}

std::optional<std::string> ConfigTree::raw(std::string_view key) const
{
    auto const found = m_values.find(key);
    if (found == m_values.end())
        return std::nullopt;
    return found->second;
}

Result<std::string> ConfigTree::expand(std::string_view key, std::string const& value, unsigned depth) const
{
    if (depth > s_deepest_reference)
        return make_error(EINVAL, "{}: its value refers to itself", key);
    std::string expanded;
    for (std::size_t i = 0; i < value.size(); ++i) {
        char const next = i + 1 < value.size() ? value[i + 1] : '\0';
        if (value[i] != '%' || (next != '%' && next != '(')) {
            expanded += value[i];
        } else if (next == '%') {
            expanded += '%';
            ++i;
        } else {
            std::size_t const end = value.find(')', i);
            if (end == value.npos)
                return make_error(EINVAL, "{}: '{}' has '%(' without ')'", key, value);
            std::string const name = value.substr(i + 2, end - i - 2);
            auto const inner = m_values.find(name);
            if (inner == m_values.end())
                return make_error(EINVAL, "{}: '{}' refers to {}, which has no value", key, value, name);
            expanded += TRY(expand(key, inner->second, depth + 1));
            // Values that name each other many times grow without end long before they are too deep.
            if (expanded.size() > s_longest_value)
                return make_error(EINVAL, "{}: its value grows beyond {} bytes", key, s_longest_value);
            i = end;
        }
    }
    return expanded;
}

Result<std::optional<std::string>> ConfigTree::value(std::string_view key) const
{
    auto const found = m_values.find(key);
    if (found == m_values.end())
        return std::optional<std::string> {};
    return std::optional<std::string>(TRY(expand(key, found->second, 0)));
}

Result<std::string> ConfigTree::value_or(std::string_view key, std::string_view otherwise) const
{
    auto const found = TRY(value(key));
    return found ? *found : std::string(otherwise);
}

Result<bool> ConfigTree::boolean_or(std::string_view key, bool otherwise) const
{
    auto const found = TRY(value(key));
    if (!found)
        return otherwise;
    std::string word = *found;
    std::transform(word.begin(), word.end(), word.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
    if (word == "true" || word == "on" || word == "yes" || word == "1")
        return true;
    if (word == "false" || word == "off" || word == "no" || word == "0")
        return false;
    return make_error(EINVAL, "{}: '{}' is neither true nor false", key, *found);
}

Result<i64> ConfigTree::integer_or(std::string_view key, i64 otherwise) const
{
    auto const found = TRY(value(key));
    if (!found)
        return otherwise;
    errno = 0;
    char* end = nullptr;
    i64 const number = std::strtoll(found->c_str(), &end, 0);
    if (found->empty() || *end != '\0' || errno != 0 || found->front() == ' ' || found->front() == '\t')
        return make_error(EINVAL, "{}: '{}' is not a number", key, *found);
    return number;
}

Result<u64> ConfigTree::size_or(std::string_view key, u64 otherwise) const
{
    auto const found = TRY(value(key));
    return found ? parse_size(*found, key) : Result<u64>(otherwise);
}

Result<u64> parse_size(std::string_view text, std::string_view object)
{
    auto const wrong = [&] { return make_error(EINVAL, "{}: '{}' is not a size such as 512M or 4G", object, text); };
    u64 number = 0;
    auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    std::size_t const rest = text.size() - static_cast<std::size_t>(end - text.data());
    if (code != std::errc {} || rest > 1)
        return wrong();
    std::size_t power = 0;
    if (rest == 1) {
        power = std::string_view("bkmgtBKMGT").find(*end);
        if (power == std::string_view::npos)
            return wrong();
        power %= 5;
    }
    u64 const unit = u64 { 1 } << (10 * power);
    if (number > ~u64 { 0 } / unit)
        return wrong();
    return number * unit;
}

std::vector<std::string> ConfigTree::children(std::string_view node) const
{
    std::string const prefix = node.empty() ? "" : std::string(node) + ".";
    std::vector<std::string> words;
    for (auto at = m_values.lower_bound(prefix); at != m_values.end() && at->first.starts_with(prefix); ++at) {
        std::string word = at->first.substr(prefix.size(), at->first.find('.', prefix.size()) - prefix.size());
        if (words.empty() || words.back() != word)
            words.push_back(std::move(word));
    }
    auto const number = [](std::string const& word) {
        u64 value = 0;
        auto const parsed = std::from_chars(word.data(), word.data() + word.size(), value);
        bool const whole = parsed.ec == std::errc {} && parsed.ptr == word.data() + word.size();
        return std::pair(whole ? 0 : 1, whole ? value : 0);
    };
    std::sort(words.begin(), words.end(), [&](std::string const& a, std::string const& b) { return std::pair(number(a), a) < std::pair(number(b), b); });
    words.erase(std::unique(words.begin(), words.end()), words.end());
    return words;
}

std::string ConfigTree::dump() const
{
    std::string text;
    for (auto const& [key, value] : m_values)
        text += key + "=" + value + "\n";
    return text;
}

Result<void> ConfigTree::freeze()
{
    for (auto const& [key, value] : m_values)
        TRY(expand(key, value, 0));
    m_frozen = true;
    return {};
}

} // namespace anyhyve
