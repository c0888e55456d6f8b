// Command-line parsing and the usage text, from a tool's option table.
#include "tools/option_table.hpp"

#include <algorithm>
#include <cstdio>
#include <getopt.h>

namespace anyhyve::tools {

namespace {

// getopt_long's values for options without a letter start here.
constexpr int first_long_value = 256;

std::vector<Option const*> all_options(Tool const& tool)
{
    std::vector<Option const*> options;
    for (auto const& group : tool.groups)
        for (auto const& option : group.options)
            options.push_back(&option);
    return options;
}

int getopt_argument(Argument argument)
{
    if (argument == Argument::none)
        return no_argument;
    return argument == Argument::required ? required_argument : optional_argument;
}

std::vector<::option> long_options(std::vector<Option const*> const& options)
{
    std::vector<::option> table;
    for (std::size_t i = 0; i < options.size(); ++i)
        if (!options[i]->name.empty())
            table.push_back({ options[i]->name.c_str(), getopt_argument(options[i]->argument), nullptr, first_long_value + static_cast<int>(i) });
    table.push_back({ nullptr, 0, nullptr, 0 });
    return table;
}

Option const* find_option(std::vector<Option const*> const& options, int value)
{
    if (value >= first_long_value)
        return options[static_cast<std::size_t>(value - first_long_value)];
    auto const found = std::find_if(options.begin(), options.end(), [value](Option const* option) { return option->letter == value; });
    return found == options.end() ? nullptr : *found;
}

// How a person typed the option that getopt_long just refused.
std::string refused_option(char* const* arguments)
{
    if (optopt > 0 && optopt < first_long_value)
        return fmt::format("-{}", static_cast<char>(optopt));
    std::string word = arguments[optind - 1];
    return word.substr(0, word.find('='));
}

std::string wrapped(std::string const& text, std::size_t indent, std::size_t width)
{
    std::string out;
    std::size_t column = indent, position = 0;
    while (position < text.size()) {
        std::size_t end = text.find(' ', position);
        if (end == std::string::npos)
            end = text.size();
        std::size_t const length = end - position;
        if (column > indent && column + 1 + length > width) {
            out += "\n" + std::string(indent, ' ');
            column = indent;
        } else if (column > indent) {
            out += ' ';
            ++column;
        }
        out += text.substr(position, length);
        column += length;
        position = end + 1;
    }
    return out;
}

std::string option_label(Option const& option)
{
    std::string label;
    if (option.letter) {
        label = fmt::format("-{}", option.letter);
        if (option.argument == Argument::required)
            label += " " + option.argument_name;
        else if (option.argument == Argument::optional)
            label += "[" + option.argument_name + "]";
    }
    if (!option.name.empty()) {
        label += (label.empty() ? "--" : ", --") + option.name;
        if (option.argument == Argument::required)
            label += "=" + option.argument_name;
        else if (option.argument == Argument::optional)
            label += "[=" + option.argument_name + "]";
    }
    return label;
}

} // namespace

std::string short_options(Tool const& tool)
{
    std::string letters;
    for (auto const* option : all_options(tool)) {
        if (!option->letter)
            continue;
        letters += option->letter;
        if (option->argument != Argument::none)
            letters += option->argument == Argument::required ? ":" : "::";
    }
    return letters;
}

Result<CommandLine> parse_command_line(Tool const& tool, int count, char* const* arguments)
{
    auto const options = all_options(tool);
    auto const long_table = long_options(options);
    std::string const letters = "+:" + short_options(tool); // +: stop at the first operand; ':': tell a missing argument apart
    CommandLine line;
    opterr = 0;
    optind = 0; // glibc: start over
    for (;;) {
        int const value = getopt_long(count, arguments, letters.c_str(), long_table.data(), nullptr);
        if (value == -1)
            break;
        if (value == ':')
            return make_error(EINVAL, "option {} needs an argument", refused_option(arguments));
        if (value == '?') {
            if (optopt >= first_long_value)
                return make_error(EINVAL, "option {} takes no argument", refused_option(arguments));
            return make_error(EINVAL, "unknown option {}", refused_option(arguments));
        }
        line.options.push_back({ find_option(options, value), optarg ? optarg : "" });
    }
    for (int i = optind; i < count; ++i)
        line.operands.emplace_back(arguments[i]);
    return line;
}

std::string usage_text(Tool const& tool)
{
    constexpr std::size_t help_column = 26, width = 100;
    std::string text;
    std::string synopsis;
    if (tool.synopsis_lists_options) {
        std::string flags;
        for (auto const* option : all_options(tool))
            if (option->letter && option->argument == Argument::none)
                flags += option->letter;
        if (!flags.empty())
            synopsis += " [-" + flags + "]";
        for (auto const* option : all_options(tool))
            if (option->letter && option->argument == Argument::required)
                synopsis += fmt::format(" [-{} {}]", option->letter, option->argument_name);
            else if (option->letter && option->argument == Argument::optional)
                synopsis += fmt::format(" [-{}[{}]]", option->letter, option->argument_name);
    }
    for (auto const& operand : tool.operands) {
        std::string const lead = (text.empty() ? "Usage: " : "       ") + tool.name + " ";
        text += lead + wrapped(text.empty() && !synopsis.empty() ? synopsis.substr(1) + " " + operand : operand, lead.size(), width) + "\n";
    }
    for (auto const& group : tool.groups) {
        text += "\n" + group.heading + ":\n";
        for (auto const& option : group.options) {
            std::string label = "  " + option_label(option);
            // libvirt looks for "-u:" in the usage text to learn that the clock may be UTC.
            if (option.letter && option.name.empty() && option.argument == Argument::none)
                label += ":";
            text += label;
            text += label.size() + 2 > help_column ? "\n" + std::string(help_column, ' ') : std::string(help_column - label.size(), ' ');
            text += wrapped(option.help, help_column, width) + "\n";
        }
    }
    return text;
}

std::string version_text(Tool const& tool)
{
    return fmt::format("{} (anyhyve) {}\n", tool.name, ANYHYVE_VERSION);
}

bool print_information(Tool const& tool, GivenOption const& given)
{
    bool const help = given.option->name == "help";
    if (!help && given.option->name != "version")
        return false;
    std::fputs((help ? usage_text(tool) : version_text(tool)).c_str(), stdout);
    return true;
}

} // namespace anyhyve::tools
