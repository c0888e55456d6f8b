// Fuzzes the text form of configurations: any text is taken or refused with a line number, and what was taken comes back from its dump.
#include "fuzz/input.hpp"
#include "vmm/config_tree.hpp"

using namespace anyhyve;

namespace {

void ask(ConfigTree const& tree, std::string const& node, unsigned depth)
{
    for (auto const& child : tree.children(node)) {
        std::string const key = node.empty() ? child : node + "." + child;
        (void)tree.value(key).ok();
        (void)tree.boolean_or(key, false).ok();
        (void)tree.integer_or(key, 0).ok();
        (void)tree.size_or(key, 0).ok();
        if (depth != 0)
            ask(tree, key, depth - 1);
    }
}

} // namespace

std::vector<std::vector<u8>> anyhyve::fuzz::seeds()
{
    std::vector<std::vector<u8>> all;
    for (std::string_view const text : { "name=vm\nmemory.size=512M\npci.0.4.0.path=/%(name).img\n", "# text\ncpus=0x4\na.b=%%\na.c=yes\n",
             "a=%(b)\nb=%(c)\nc=%(a)\n", "a.b=1\na=2\n", "x=-9223372036854775808\ny=18446744073709551615T\n" })
        all.emplace_back(text.begin(), text.end());
    return all;
}

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size)
{
    std::string const text(data, data + size);
    ConfigTree tree;
    auto const loaded = tree.load_text(text, "text");
    ASSERT(loaded.ok() || loaded.error().message().starts_with("text:"), "a refusal names the line");
    ask(tree, "", 4);
    ConfigTree again;
    if (loaded.ok()) {
        ASSERT(again.load_text(tree.dump(), "dump").ok(), "a dump can be read");
        ASSERT(again.dump() == tree.dump(), "a dump is complete");
    }
    (void)parse_size(text, "size").ok();
    if (tree.freeze().ok())
        ASSERT(!tree.set("another.key", "1").ok(), "a frozen tree does not change");
    return 0;
}
