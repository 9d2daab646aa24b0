# Install the binary, the libraries with their headers, and a package that find_package(phitune) finds.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(TARGETS phitune RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS phitune_search phitune_kernel_templates phitune_host_emulator phitune_harness phitune_reports EXPORT phituneTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
# libphitune.so and its header, for other languages; linked whole, so that a user needs no other library of phitune's.
install(TARGETS phitune_c EXPORT phituneTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(room search kernel_templates harness reports)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/${room}/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/phitune/${room}
          FILES_MATCHING PATTERN "*.hpp" PATTERN "phitune.h" PATTERN "args.cuh" PATTERN "tspow.cuh" PATTERN "cli" EXCLUDE PATTERN "host" EXCLUDE)
endforeach()
install(EXPORT phituneTargets NAMESPACE phitune:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/phitune)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/phituneConfig.cmake.in ${PROJECT_BINARY_DIR}/phituneConfig.cmake
                              INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/phitune)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/phituneConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/phituneConfig.cmake ${PROJECT_BINARY_DIR}/phituneConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/phitune)
