/* A file server that stops to answer: server FOLDER PLACE CONTROL
 *
 * It serves the files of FOLDER, which has no folders, at PLACE, as executables of root. CONTROL is an absolute path. Once it
 * exists and has the number of a request (FUSE_READ is 15), the server takes such requests and never answers them. A process that
 * waits for such an answer gets no signal, not even SIGKILL, until the server ends. See linux/fuse.h. */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static char names[64][256];
static int fuse, count;

static void answer(struct fuse_in_header *to, int error, const void *data, size_t length)
{
    struct fuse_out_header header = { sizeof header + length, -error, to->unique };
    struct iovec parts[] = { { &header, sizeof header }, { (void *)data, length } };
    /* the request may have been given up */
    if (writev(fuse, parts, 2) < 0) return;
}

static int file(unsigned long node)
{
    return node < 2 || node >= count + 2UL ? -1 : open(names[node - 2], O_RDONLY);
}

static struct fuse_attr attributes(unsigned long node)
{
    struct stat found = { .st_size = 0 };
    int fd = file(node);
    if (fd >= 0) { fstat(fd, &found); close(fd); }
    return (struct fuse_attr){ .ino = node, .size = found.st_size, .blocks = found.st_size / 512, .nlink = 1,
        .mode = node == 1 ? S_IFDIR | 0755 : S_IFREG | 0755, .blksize = 4096 };
}

static void serve(struct fuse_in_header *in, void *body)
{
    static char bytes[1 << 20];
    switch (in->opcode) {
    case FUSE_INIT: {
        struct fuse_init_in *init = body;
        struct fuse_init_out out = { .major = 7, .minor = init->minor < 31 ? init->minor : 31, .max_readahead = 0,
            .max_background = 8, .congestion_threshold = 8, .max_write = 4096 };
        answer(in, 0, &out, sizeof out);
        break;
    }
    case FUSE_LOOKUP:
        for (int i = 0; i < count; i++)
            if (!strcmp(names[i], body)) {
                struct fuse_entry_out out = { .nodeid = i + 2, .attr = attributes(i + 2) };
                answer(in, 0, &out, sizeof out);
                return;
            }
        answer(in, 2, NULL, 0);
        break;
    case FUSE_GETATTR: {
        struct fuse_attr_out out = { .attr = attributes(in->nodeid) };
        answer(in, 0, &out, sizeof out);
        break;
    }
    case FUSE_OPEN: case FUSE_OPENDIR: {
        struct fuse_open_out out = { .open_flags = 0 };
        answer(in, 0, &out, sizeof out);
        break;
    }
    case FUSE_READ: {
        struct fuse_read_in *read = body;
        int fd = file(in->nodeid);
        ssize_t length = pread(fd, bytes, read->size < sizeof bytes ? read->size : sizeof bytes, read->offset);
        close(fd);
        answer(in, 0, bytes, length < 0 ? 0 : length);
        break;
    }
    case FUSE_STATFS: {
        struct fuse_statfs_out out = { .st = { .bsize = 4096, .namelen = 255, .frsize = 4096 } };
        answer(in, 0, &out, sizeof out);
        break;
    }
    case FUSE_READDIR: case FUSE_FLUSH: case FUSE_RELEASE: case FUSE_RELEASEDIR: case FUSE_ACCESS:
        answer(in, 0, NULL, 0);
        break;
    case FUSE_FORGET: case FUSE_BATCH_FORGET: case FUSE_INTERRUPT:
        break;
    default:
        answer(in, 38, NULL, 0);
    }
}

int main(int argc, char **argv)
{
    static char request[1 << 20];
    char options[256];
    DIR *folder = argc == 4 ? opendir(argv[1]) : NULL;
    struct dirent *item;
    ssize_t length;
    if (!folder) return 1;
    while ((item = readdir(folder)) && count < 64)
        if (item->d_name[0] != '.') strcpy(names[count++], item->d_name);
    fuse = open("/dev/fuse", O_RDWR);
    snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%d,group_id=%d,allow_other,default_permissions", fuse,
        getuid(), getgid());
    if (mount("server", argv[2], "fuse", MS_NODEV, options)) { perror("mount"); return 1; }
    if (chdir(argv[1])) return 1;
    while ((length = read(fuse, request, sizeof request)) > 0) {
        struct fuse_in_header *in = (void *)request;
        FILE *stall = fopen(argv[3], "r");
        unsigned number = 0;
        if (stall) { if (fscanf(stall, "%u", &number) != 1) number = 0; fclose(stall); }
        if (number && number == in->opcode) continue;
        serve(in, in + 1);
    }
    return 0;
}
