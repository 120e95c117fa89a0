// Makes threads until the kernel refuses, and goes on trying: a service that uses up the container's processes.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void *idle(void *unused) {
	for (;;)
		pause();
	return unused;
}

int main(void) {
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 65536);
	for (int full = 0;;) {
		pthread_t thread;
		if (pthread_create(&thread, &attr, idle, NULL) == 0)
			continue;
		if (!full) {
			puts("full");
			fflush(stdout);
			full = 1;
		}
		usleep(2000);
	}
}
