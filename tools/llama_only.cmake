# Halves the time it takes to compile llama-cpp-python: of its C++ only the library that Python loads is built.
#
# Used by setting  CMAKE_ARGS="-DLLAVA_BUILD=OFF -DCMAKE_PROJECT_llama_cpp_INCLUDE=<this file>".
#
# llama-cpp-python sets the cache variable LLAMA_BUILD_COMMON by force, but a normal variable of the same name, made
# here right after its project() command, hides the cache entry (CMake policy CMP0126). Then neither llama-common nor
# its install rule exists. LLAVA_BUILD=OFF leaves out the image and audio library, which edgeai does not use.
set(LLAMA_BUILD_COMMON OFF)
