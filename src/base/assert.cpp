// The end of the road for a broken invariant.
#include "base/assert.hpp"

#include <cstdio>
#include <cstdlib>

namespace anyhyve {

void assertion_failed(char const* condition, char const* text, char const* file, int line)
{
    std::fprintf(stderr, "anyhyve: internal error: %s (%s) at %s:%d\n", text, condition, file, line);
    std::abort();
}

} // namespace anyhyve
