# Precompiled headers: of the libraries' that most files use. They halve the time of a whole build, but a file compiles that forgot one of these
# #includes; so not where a compiler launcher such as ccache makes builds short, which could not keep such compilations anyway.

if(CMAKE_CXX_COMPILER_ID STREQUAL GNU AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(precompile ON)
else()
  set(precompile OFF)
endif()
option(ANYHYVE_PRECOMPILE "Precompile the libraries' headers" ${precompile})

set(anyhyve_common_headers <algorithm> <array> <atomic> <bitset> <cstring> <functional> <map> <memory> <mutex> <optional> <span> <string> <string_view> <vector>
  <fmt/core.h>)

# anyhyve_precompile(target [OPTIONS compiler options of the target...] [HEADERS more headers... LIBRARIES whose they are...]): once for all
# targets with the same.
function(anyhyve_precompile target)
  if(NOT ANYHYVE_PRECOMPILE)
    return()
  endif()
  cmake_parse_arguments(PARSE_ARGV 1 with "" "" "OPTIONS;HEADERS;LIBRARIES")
  string(MD5 kind "${with_OPTIONS} ${with_HEADERS}")
  set(common anyhyve_precompiled_${kind})
  if(NOT TARGET ${common})
    file(WRITE ${CMAKE_BINARY_DIR}/precompiled/${kind}.cpp "")
    add_library(${common} OBJECT ${CMAKE_BINARY_DIR}/precompiled/${kind}.cpp)
    target_link_libraries(${common} PRIVATE anyhyve_options ${with_LIBRARIES})
    target_compile_options(${common} PRIVATE ${with_OPTIONS})
    target_precompile_headers(${common} PRIVATE ${anyhyve_common_headers} ${with_HEADERS})
  endif()
  target_precompile_headers(${target} REUSE_FROM ${common})
endfunction()
