// Our own bugs stop the program here, with a text. Never for host trouble or guest misbehaviour.
#pragma once

namespace anyhyve {

[[noreturn]] void assertion_failed(char const* condition, char const* text, char const* file, int line);

} // namespace anyhyve

#define ASSERT(condition, text)                                                                                       \
    (__builtin_expect(!(condition), 0) ? ::anyhyve::assertion_failed(#condition, text, __FILE__, __LINE__) : (void)0)
