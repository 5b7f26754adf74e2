/* The smallest program that a person writes; linked with and without shared libraries. */
#include <stdio.h>

int main(void)
{
	puts("hello");
	return 0;
}
