# Installs the build into a fresh prefix, then configures, builds and runs the consumer against it.
# -D build=..., -D source=..., -D work=...
file(REMOVE_RECURSE ${work})
file(READ ${source}/../../README.md readme)
if(NOT readme MATCHES "```cpp\n([^`]+)```")
  message(FATAL_ERROR "README.md has no C++ example")
endif()
file(WRITE ${work}/readme_example.inc "${CMAKE_MATCH_1}")
foreach(step
    "${CMAKE_COMMAND};--install;${build};--prefix;${work}/prefix"
    "${CMAKE_COMMAND};-S;${source};-B;${work}/build;-G;Ninja;-DCMAKE_PREFIX_PATH=${work}/prefix;-DCMAKE_BUILD_TYPE=Release;-DCMAKE_CXX_FLAGS=-I${work}"
    "${CMAKE_COMMAND};--build;${work}/build"
    "${work}/build/consumer")
  execute_process(COMMAND ${step} RESULT_VARIABLE result OUTPUT_VARIABLE output ERROR_VARIABLE output)
  if(NOT result EQUAL 0)
    message(FATAL_ERROR "${step}\nfailed with ${result}:\n${output}")
  endif()
endforeach()
message(STATUS "${output}")
