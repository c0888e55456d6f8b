# One target per folder of src/: anyhyve_layer(name dependencies...) builds every .cpp beside the CMakeLists.txt that calls it.
# Dependencies name the layers this one may include; the order of architecture is downward only (tests/style checks it).

add_library(anyhyve_options INTERFACE)
target_include_directories(anyhyve_options INTERFACE ${CMAKE_SOURCE_DIR}/src)
target_compile_options(anyhyve_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wold-style-cast -Wnon-virtual-dtor -Wsuggest-override -Wimplicit-fallthrough
  -ffunction-sections -fdata-sections)
target_link_options(anyhyve_options INTERFACE -Wl,--gc-sections -Wl,--as-needed)
target_link_libraries(anyhyve_options INTERFACE fmt::fmt Threads::Threads)
if(ANYHYVE_SANITIZE)
  target_compile_options(anyhyve_options INTERFACE -fsanitize=${ANYHYVE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(anyhyve_options INTERFACE -fsanitize=${ANYHYVE_SANITIZE})
endif()

# anyhyve_layer(name dependencies... [OPTIONS compiler options...])
function(anyhyve_layer name)
  cmake_parse_arguments(PARSE_ARGV 1 layer "" "" "OPTIONS")
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  add_library(anyhyve_${name} STATIC ${sources})
  target_link_libraries(anyhyve_${name} PUBLIC anyhyve_options)
  foreach(dependency ${layer_UNPARSED_ARGUMENTS})
    target_link_libraries(anyhyve_${name} PUBLIC anyhyve_${dependency})
  endforeach()
  target_compile_options(anyhyve_${name} PRIVATE ${layer_OPTIONS})
  anyhyve_precompile(anyhyve_${name} OPTIONS ${layer_OPTIONS})
endfunction()

# anyhyve_layer_part(layer part FILES files... OPTIONS compiler options...): these files of a layer are compiled with other options than the rest.
function(anyhyve_layer_part layer name)
  cmake_parse_arguments(PARSE_ARGV 2 part "" "" "FILES;OPTIONS")
  list(TRANSFORM part_FILES PREPEND ${CMAKE_CURRENT_SOURCE_DIR}/)
  get_target_property(sources anyhyve_${layer} SOURCES)
  list(REMOVE_ITEM sources ${part_FILES})
  set_property(TARGET anyhyve_${layer} PROPERTY SOURCES ${sources})
  set(part anyhyve_${layer}_${name})
  add_library(${part} OBJECT ${part_FILES})
  target_link_libraries(${part} PRIVATE anyhyve_options)
  target_compile_definitions(${part} PRIVATE $<TARGET_PROPERTY:anyhyve_${layer},INTERFACE_COMPILE_DEFINITIONS>)
  target_compile_options(${part} PRIVATE ${part_OPTIONS})
  anyhyve_precompile(${part} OPTIONS ${part_OPTIONS})
  target_sources(anyhyve_${layer} PRIVATE $<TARGET_OBJECTS:${part}>)
endfunction()

# anyhyve_general_registers(layer files...): these run while a guest's vector registers are in the host's, so they must not touch them, nor may their loops
# become calls of memset, which does.
function(anyhyve_general_registers layer)
  if(ANYHYVE_SANITIZE MATCHES thread)
    # What ThreadSanitizer calls at every access uses vector registers. A file's own options come behind those of all, which a target's would not.
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS -fno-sanitize=thread SKIP_PRECOMPILE_HEADERS ON)
  endif()
  anyhyve_layer_part(${layer} general_registers FILES ${ARGN} OPTIONS -mgeneral-regs-only -fno-tree-loop-distribute-patterns)
endfunction()

# anyhyve_unit_test(name layers...): one test program per tests/unit/<layer>, of every *_test.cpp in it.
function(anyhyve_unit_test name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  add_executable(unit_${name} ${sources})
  target_link_libraries(unit_${name} PRIVATE GTest::gmock GTest::gtest_main)
  foreach(dependency ${ARGN})
    target_link_libraries(unit_${name} PRIVATE anyhyve_${dependency})
  endforeach()
  anyhyve_precompile(unit_${name} HEADERS <gmock/gmock.h> <gtest/gtest.h> LIBRARIES GTest::gmock)
  add_test(NAME unit_${name} COMMAND unit_${name})
endfunction()
