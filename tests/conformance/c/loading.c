/* Loading while it runs: dlopen, symbols, thread-local storage of a library, and what is loaded. */
#include "check.h"
#include <dlfcn.h>
#include <link.h>

static int count(struct dl_phdr_info *info, size_t size, void *seen) {
  (void)size;
  const char *name = strrchr(info->dlpi_name, '/');
  printf("%s %d\n", name ? name + 1 : info->dlpi_name, info->dlpi_phnum);
  ++*(int *)seen;
  return 0;
}

static int resolved(int x) { return x * 6; }
/* chosen by the loader, where the architecture has such symbols */
#if defined __x86_64__ || defined __i386__ || defined __aarch64__ || defined __s390x__ || defined __powerpc64__
static int (*resolve(void))(int) { return resolved; }
int chosen(int x) __attribute__((ifunc("resolve")));
#else
static int chosen(int x) { return resolved(x); }
#endif

int main(void) {
  VALUE(chosen(7));
  void *library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
  double (*cosine)(double) = (double (*)(double))(uintptr_t)dlsym(library, "cos");
  printf("%a\n", cosine(1.0));
  printf("%s\n", dlsym(library, "nonexistent") ? "found" : dlerror());
  printf("%s\n", dlopen("libnonexistent.so", RTLD_NOW) ? "found" : dlerror());
  int seen = 0;
  dl_iterate_phdr(count, &seen);
  VALUE(seen);
  Dl_info about;
  IS(dladdr((void *)(uintptr_t)cosine, &about) != 0);
  const char *name = strrchr(about.dli_fname, '/');
  puts(name + 1);
  VALUE(dlclose(library));
  for (int i = 0; i < 20; i++) {
    library = dlopen("libresolv.so.2", RTLD_LAZY);
    if (!library || dlclose(library)) puts("failed");
  }
  return 0;
}
