// A manual page in mdoc(7), made from a tool's option table.
#include "tools/option_table.hpp"

#include <algorithm>

namespace anyhyve::tools {

namespace {

// mdoc reads a leading dot or apostrophe as a request, and backslashes as escapes.
std::string escaped(std::string_view text)
{
    std::string out;
    for (char const c : text) {
        if (c == '\\')
            out += "\\e";
        else
            out += c;
    }
    if (!out.empty() && (out[0] == '.' || out[0] == '\''))
        out = "\\&" + out;
    return out;
}

// mdoc wants each sentence on a line of its own.
std::string sentences(std::string_view text)
{
    std::string out;
    std::string_view rest = text;
    for (;;) {
        std::size_t end = std::string_view::npos;
        for (std::size_t at = rest.find(". "); at != std::string_view::npos; at = rest.find(". ", at + 1)) {
            bool const new_sentence = at + 2 < rest.size() && (std::isupper(static_cast<unsigned char>(rest[at + 2])) || rest[at + 2] == '-');
            if (new_sentence) {
                end = at + 1;
                break;
            }
        }
        if (end == std::string_view::npos)
            return out + escaped(rest) + "\n";
        out += escaped(rest.substr(0, end)) + "\n";
        rest.remove_prefix(end + 1);
    }
}

// An argument of a macro: quoted, so that words of it are not taken for macros and punctuation stays in place.
std::string macro_argument(std::string_view text)
{
    std::string out = "\"";
    for (char const c : escaped(text))
        out += c == '"' ? std::string("\"\"") : std::string(1, c);
    return out + "\"";
}

std::string flag(Option const& option)
{
    return option.letter ? std::string(1, option.letter) : "-" + option.name;
}

std::string synopsis(Tool const& tool)
{
    std::string text = ".Nm\n";
    std::string letters;
    for (auto const& group : tool.groups)
        for (auto const& option : group.options)
            if (option.letter && option.argument == Argument::none)
                letters += option.letter;
    if (tool.synopsis_lists_options && !letters.empty())
        text += ".Op Fl " + letters + "\n";
    for (auto const& group : tool.groups) {
        for (auto const& option : group.options) {
            if (!tool.synopsis_lists_options || !option.letter || option.argument == Argument::none)
                continue;
            text += fmt::format(".Op Fl {} Ar {}\n", option.letter, macro_argument(option.argument_name));
        }
    }
    for (std::size_t i = 0; i < tool.operands.size(); ++i)
        text += (i ? ".Nm\n.Ar " : ".Ar ") + macro_argument(tool.operands[i]) + "\n";
    return text;
}

std::string option_item(Option const& option)
{
    std::string item = ".It Fl " + flag(option);
    if (option.argument != Argument::none)
        item += fmt::format("{} Ar {}", option.letter ? "" : " Ns =", macro_argument(option.argument_name));
    if (option.letter && !option.name.empty())
        item += fmt::format(" , Fl -{}", option.name);
    return item + "\n" + sentences(option.help);
}

} // namespace

std::string manual_page(Tool const& tool)
{
    std::string upper = tool.name;
    std::transform(upper.begin(), upper.end(), upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    std::string page = ".\\\" Made from the option table of " + tool.name + " by generate-man. Edit that table instead.\n";
    page += ".Dd November 22, 2026\n.Dt " + upper + " 8\n.Os\n.Sh NAME\n.Nm " + tool.name + "\n.Nd " + tool.summary + "\n.Sh SYNOPSIS\n" + synopsis(tool);
    page += ".Sh DESCRIPTION\n";
    for (std::size_t i = 0; i < tool.description.size(); ++i)
        page += (i ? ".Pp\n" : "") + sentences(tool.description[i]);
    for (auto const& group : tool.groups) {
        page += ".Ss " + group.heading + "\n.Bl -tag -width indent\n";
        for (auto const& option : group.options)
            page += option_item(option);
        page += ".El\n";
    }
    if (!tool.exit_statuses.empty()) {
        page += ".Sh EXIT STATUS\n.Bl -tag -width indent\n";
        for (auto const& status : tool.exit_statuses)
            page += ".It " + status.code + "\n" + sentences(status.meaning);
        page += ".El\n";
    }
    if (!tool.examples.empty()) {
        page += ".Sh EXAMPLES\n";
        for (std::size_t i = 0; i < tool.examples.size(); ++i)
            page += (i ? ".Pp\n" : "") + sentences(tool.examples[i].purpose) + ".Dl " + escaped(tool.examples[i].command) + "\n";
    }
    if (!tool.see_also.empty()) {
        page += ".Sh SEE ALSO\n";
        for (std::size_t i = 0; i < tool.see_also.size(); ++i)
            page += ".Xr " + tool.see_also[i] + (i + 1 < tool.see_also.size() ? " ,\n" : "\n");
    }
    return page;
}

} // namespace anyhyve::tools
