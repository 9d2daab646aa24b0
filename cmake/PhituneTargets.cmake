# What every target of phitune has in common.
add_library(phitune_options INTERFACE)
target_compile_features(phitune_options INTERFACE cxx_std_20)
target_compile_options(phitune_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wno-sign-conversion
                       $<$<BOOL:${PHITUNE_WARNINGS_AS_ERRORS}>:-Werror>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(phitune_options INTERFACE -Wno-restrict)  # false alarms on std::string in optimised builds (GCC bug 105651)
endif()
if(PHITUNE_SANITIZE)  # e.g. "address,undefined"
  target_compile_options(phitune_options INTERFACE -fsanitize=${PHITUNE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(phitune_options INTERFACE -fsanitize=${PHITUNE_SANITIZE})
endif()
if(PHITUNE_PORTABLE)
  target_link_options(phitune_options INTERFACE -static-libstdc++ -static-libgcc)
endif()

# A room of the tree as a library with an alias: phitune_library(search SOURCES ...) makes phitune_search and phitune::search.
function(phitune_library room)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;PRIVATE_DEPENDS" ${ARGN})
  add_library(phitune_${room} STATIC ${ARG_SOURCES})
  add_library(phitune::${room} ALIAS phitune_${room})
  set_target_properties(phitune_${room} PROPERTIES EXPORT_NAME ${room})
  target_include_directories(phitune_${room} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}> $<INSTALL_INTERFACE:include/phitune>)
  target_link_libraries(phitune_${room} PUBLIC ${ARG_DEPENDS} PRIVATE ${ARG_PRIVATE_DEPENDS} $<BUILD_INTERFACE:phitune_options>)
endfunction()

# The programs of the tests that need a GPU.
add_custom_target(gpu_tests)

# phitune_test(name SOURCES ... DEPENDS ... [LABELS gpu]) makes one GoogleTest program, each of its tests known to ctest.
function(phitune_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LABELS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} phitune_options GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE PHITUNE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  gtest_discover_tests(${name} PROPERTIES LABELS "${ARG_LABELS}" DISCOVERY_TIMEOUT 60)
  if("gpu" IN_LIST ARG_LABELS)
    add_dependencies(gpu_tests ${name})
  endif()
endfunction()
