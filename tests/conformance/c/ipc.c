/* System V's and POSIX's shared memory, semaphores and message queues, between processes. */
#include "check.h"
#include <fcntl.h>
#include <semaphore.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/wait.h>

union semun { int val; struct semid_ds *buf; unsigned short *array; };
struct message { long type; char text[16]; };

int main(void) {
  int memory = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600), set = semget(IPC_PRIVATE, 3, IPC_CREAT | 0600), queue = msgget(IPC_PRIVATE, 0600);
  IS(memory >= 0 && set >= 0 && queue >= 0);
  int *shared = shmat(memory, NULL, 0);
  CALL(semctl(set, 0, SETALL, (union semun){.array = (unsigned short[]){0, 1, 2}}));
  if (fork() == 0) {
    /* It is the parent that prints, so that lines come in one order. */
    struct message message;
    shared[0] = msgrcv(queue, &message, sizeof message.text, -5, 0);
    shared[1] = message.type;
    strcpy((char *)(shared + 2), message.text);
    shared[2000] = 77;
    semop(set, (struct sembuf[]){{0, 2, 0}, {2, -1, SEM_UNDO}}, 2);
    _exit(0);
  }
  CALL(msgsnd(queue, &(struct message){9, "nine"}, 5, 0));
  CALL(msgsnd(queue, &(struct message){4, "four"}, 5, 0));
  CALL(semop(set, (struct sembuf[]){{0, -2, 0}}, 1));
  wait(NULL);
  printf("%d %d %s\n", shared[0], shared[1], (char *)(shared + 2));
  VALUE(shared[2000]);
  unsigned short values[3];
  CALL(semctl(set, 0, GETALL, (union semun){.array = values}));
  printf("%u %u %u\n", values[0], values[1], values[2]);
  CALL(semop(set, (struct sembuf[]){{0, -1, IPC_NOWAIT}}, 1));
  CALL(semtimedop(set, (struct sembuf[]){{0, -1, 0}}, 1, &(struct timespec){0, 1000000}));
  struct shmid_ds about;
  CALL(shmctl(memory, IPC_STAT, &about));
  printf("%zu %lu %o\n", about.shm_segsz, (long)about.shm_nattch, about.shm_perm.mode);
  struct msqid_ds messages;
  CALL(msgctl(queue, IPC_STAT, &messages));
  VALUE(messages.msg_qnum);
  struct message message;
  CALL(msgrcv(queue, &message, 2, 0, 0));
  CALL(msgrcv(queue, &message, 2, 0, MSG_NOERROR));
  CALL(msgrcv(queue, &message, 2, 0, IPC_NOWAIT));
  CALL(shmdt(shared));
  CALL(shmdt(shared));
  CALL(shmctl(memory, IPC_RMID, NULL));
  CALL(semctl(set, 0, IPC_RMID));
  CALL(msgctl(queue, IPC_RMID, NULL));
  CALL((long)shmat(memory, NULL, 0));

  int file = shm_open("/conformance", O_CREAT | O_RDWR | O_EXCL, 0600);
  CALL(ftruncate(file, 4096));
  sem_t *semaphores = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  CALL(sem_init(&semaphores[0], 1, 0));
  if (fork() == 0) {
    for (int i = 0; i < 3; i++) sem_post(&semaphores[0]);
    _exit(0);
  }
  for (int i = 0; i < 3; i++) CALL(sem_wait(&semaphores[0]));
  CALL(sem_trywait(&semaphores[0]));
  wait(NULL);
  CALL(shm_unlink("/conformance"));
  return 0;
}
