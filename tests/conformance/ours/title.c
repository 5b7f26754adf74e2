/* Gives itself a title, as setproctitle(3) does, and a name: title short|long ARGUMENT... Then it waits until it is killed.
 *
 * A title has the room of the arguments. One that ends nowhere in them goes on over the environment: proc_pid_cmdline(5). */
#include "../c/check.h"
#include <sys/prctl.h>

int main(int argc, char **argv) {
  char *end = argv[argc - 1] + strlen(argv[argc - 1]) + 1;
  if (!strcmp(argv[1], "long")) {
    memset(argv[0], 't', end - argv[0]);
    strcpy(end, ", and more");
  } else {
    memset(argv[0], 0, end - argv[0]);
    strcpy(argv[0], "title");
  }
  CALL(prctl(PR_SET_NAME, "of its own"));
  pause();
}
