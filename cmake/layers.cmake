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

function(anyhyve_layer name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cpp)
  if(NOT sources)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp "")
    set(sources ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
  endif()
  add_library(anyhyve_${name} STATIC ${sources})
  target_link_libraries(anyhyve_${name} PUBLIC anyhyve_options)
  foreach(dependency ${ARGN})
    target_link_libraries(anyhyve_${name} PUBLIC anyhyve_${dependency})
  endforeach()
endfunction()

# anyhyve_unit_test(layer): one test program per tests/unit/<layer>, of every *_test.cpp in it.
function(anyhyve_unit_test name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp)
  if(sources)
    add_executable(unit_${name} ${sources})
    target_link_libraries(unit_${name} PRIVATE GTest::gmock GTest::gtest_main)
    foreach(dependency ${ARGN})
      target_link_libraries(unit_${name} PRIVATE anyhyve_${dependency})
    endforeach()
    add_test(NAME unit_${name} COMMAND unit_${name})
  endif()
endfunction()
