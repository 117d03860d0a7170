// Preloaded into the server: while the file named by FULL_DISK is there, nothing more fits into files whose path ends in
// ".db" or ".db-wal".
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int is_full(int fd) {
  const char* flag = getenv("FULL_DISK");
  if (flag == NULL || access(flag, F_OK) != 0)
    return 0;
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0)
    return 0;
  path[size] = 0;
  const char* dot = strrchr(path, '.');
  return dot != NULL && (strcmp(dot, ".db") == 0 || strcmp(dot, ".db-wal") == 0);
}

#define SHADOW(name, offset_type)                                                                                      \
  ssize_t name(int fd, const void* data, size_t size, offset_type at) {                                                \
    static ssize_t (*real)(int, const void*, size_t, offset_type);                                                     \
    if (real == NULL)                                                                                                  \
      *(void**)&real = dlsym(RTLD_NEXT, #name);                                                                        \
    if (is_full(fd)) {                                                                                                 \
      errno = ENOSPC;                                                                                                  \
      return -1;                                                                                                       \
    }                                                                                                                  \
    return real(fd, data, size, at);                                                                                   \
  }
SHADOW(pwrite, off_t)
SHADOW(pwrite64, off64_t)
