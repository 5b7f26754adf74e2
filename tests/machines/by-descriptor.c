/* Starts a file by a descriptor that is closed on execution, so that nothing has a path to it: by-descriptor FILE ARGUMENT... */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int file = argc > 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	execveat(file, "", argv + 2, environ, AT_EMPTY_PATH);
	perror("execveat");
	return 127;
}
