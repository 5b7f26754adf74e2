/*
 * One program in the place of each of QEMU's user emulators, for tests of what the tool does rather than of what QEMU does.
 *
 * It is told from QEMU's by nothing that the tool looks at: it has QEMU's literal with the version, states it for --version,
 * and gives the answer that a probe under the real emulator gives, which is the first byte of its argv[0]
 * (magic/src/probe.rs). The foreign programs beside it are probes, too. One that is called with a command, as busybox is, is
 * answered for by the machine's own program of that name; only the machine of `uname -m` is the emulator's.
 *
 * harness/fake.rs compiles it once and writes each emulator's identity over IDENTITY. Without one it is a program of the
 * machine's own: busybox, as far as above. With -DTRANSPARENT it honours flag T of Linux 7.3, which Debian's QEMU 10.0 does not.
 */
#include <linux/binfmts.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* A NUL before it, as before every literal; volatile, for what is there is not what was compiled. */
static const volatile char identity[256] = "\0qemu-IDENTITY";

static const char *const machines[][2] = {
	{"arm", "armv7l"}, {"i386", "i686"}, {"mips64el", "mips64"},
};

int main(int argc, char **argv)
{
	char text[sizeof identity], target[32] = "";
	for (size_t at = 0; at < sizeof text - 1; at++)
		text[at] = identity[at + 1];
	text[sizeof text - 1] = 0;
	sscanf(text, "qemu-%31s", target);
	int transparent = 0;
#ifdef TRANSPARENT
	/* the file is a descriptor, and every argument is the program's */
	transparent = getauxval(AT_FLAGS) >> 1 & 1;
	if (transparent && !getauxval(AT_EXECFD))
		return 2;
#endif
	if (!transparent && argc > 1 && !strcmp(argv[1], "--version"))
		return puts(text) < 0;
	/* an interpreter gets the file, with flag P the name that the caller has given it, and the arguments */
	char **name = argv + !transparent;
	if (argc > 2 && !strcmp(*name, "-0"))
		name += 1;
	else if (argc > 2 && getauxval(AT_FLAGS) & AT_FLAGS_PRESERVE_ARGV0)
		name += 1;
	char **command = name + 1;
	if (!strcmp(target, "IDENTITY")) {
		command = argv + 1;
		name = argv;
		strcpy(target, "x86_64");
	}
	if (argc < 2 && !transparent)
		return 1;
	if (!*command)
		return (unsigned char)**name;
	if (!strcmp(*command, "pause"))
		return pause();
	if (!strcmp(*command, "uname") && command[1] && !strcmp(command[1], "-m")) {
		const char *machine = target;
		for (size_t at = 0; at < sizeof machines / sizeof *machines; at++)
			if (!strcmp(machines[at][0], target))
				machine = machines[at][1];
		return puts(machine) < 0;
	}
	execvp(*command, command);
	perror(*command);
	return 127;
}
