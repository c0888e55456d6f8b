// One table per tool: command-line parsing, the usage text, --help and the manual page are all made from it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace anyhyve::tools {

enum class Argument { none, required, optional };

struct Option {
    char letter = 0;          // 0: long form only
    std::string name;         // long form without its dashes; empty: short form only
    Argument argument = Argument::none;
    std::string argument_name; // as the texts show it
    std::string help;         // sentences
};

// Options of one kind, under a heading of --help and of the manual page.
struct OptionGroup {
    std::string heading;
    std::vector<Option> options;
};

struct ExitStatus {
    std::string code;
    std::string meaning;
};

struct Example {
    std::string purpose;
    std::string command;
};

struct Tool {
    std::string name;
    std::string summary;                  // a phrase, for the NAME line
    std::vector<std::string> operands;    // each a line of the synopsis behind the options: "vmname"
    std::vector<OptionGroup> groups;
    std::vector<std::string> description; // paragraphs
    std::vector<ExitStatus> exit_statuses;
    std::vector<Example> examples;
    std::vector<std::string> see_also;    // "bhyve 8"
    bool synopsis_lists_options = true;   // false: too many to list one by one
};

struct GivenOption {
    Option const* option;
    std::string value;
};

struct CommandLine {
    std::vector<GivenOption> options; // in the order given
    std::vector<std::string> operands;
};

// Options end at the first operand, as getopt(3) of FreeBSD has it. The error is one line without the tool's name.
Result<CommandLine> parse_command_line(Tool const&, int count, char* const* arguments);

// The string that getopt(3) takes.
std::string short_options(Tool const&);
std::string usage_text(Tool const&);
std::string manual_page(Tool const&);
// What --version prints.
std::string version_text(Tool const&);
// Prints what --help or --version ask for; false for any other option.
bool print_information(Tool const&, GivenOption const&);

} // namespace anyhyve::tools
