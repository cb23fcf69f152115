// SPDX-License-Identifier: Apache-2.0
// What the runtime gives us: CNI_* variables, checked, and the network configuration, bounded in size and
// time.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cni.h"

// Standard input to its end: false with errno EFBIG (too long) or ETIMEDOUT (nobody closes it).
bool read_input(struct buffer *input)
{
	char chunk[16384];
	int64_t deadline = now_ms() + INPUT_MS;
	for (;;) {
		struct pollfd wait = {.fd = STDIN_FILENO, .events = POLLIN};
		int64_t left = deadline - now_ms();
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready == 0)
			errno = ETIMEDOUT;
		if (ready <= 0)
			return false;
		ssize_t got = read(STDIN_FILENO, chunk, sizeof(chunk));
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return false;
		if (got == 0)
			return true;
		if (input->length + (size_t)got > MAX_INPUT) {
			errno = EFBIG;
			return false;
		}
		if (!append(input, chunk, (size_t)got))
			return false;
	}
}

const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

static bool is_letter_or_digit(char letter)
{
	return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') ||
	       (letter >= '0' && letter <= '9');
}

static bool is_container_id(const char *id)
{
	size_t length = strlen(id);
	if (length == 0 || length > MAX_CONTAINER_ID || !is_letter_or_digit(id[0]))
		return false;
	for (; *id; id++)
		if (!is_letter_or_digit(*id) && *id != '_' && *id != '.' && *id != '-')
			return false;
	return true;
}

static bool is_ifname(const char *name)
{
	size_t length = strlen(name);
	if (length == 0 || length > MAX_IFNAME || !strcmp(name, ".") || !strcmp(name, ".."))
		return false;
	for (; *name; name++)
		if (*name == '/' || *name == ':' || (unsigned char)*name <= 0x20 || *name == 0x7f)
			return false;
	return true;
}

// The name of the first CNI variable that this command needs and that is missing or wrong; NULL if all are
// well.
const char *wrong_variable(const char *command)
{
	bool pod = !strcmp(command, "ADD") || !strcmp(command, "DEL") || !strcmp(command, "CHECK");
	if (pod && !is_container_id(variable("CNI_CONTAINERID")))
		return "CNI_CONTAINERID";
	if (pod && !is_ifname(variable("CNI_IFNAME")))
		return "CNI_IFNAME";
	if (pod && strcmp(command, "DEL") != 0 && !*variable("CNI_NETNS"))
		return "CNI_NETNS";
	for (char **entry = environ; *entry; entry++)
		if (!strncmp(*entry, "CNI_", 4))
			for (const char *at = *entry; *at; at++)
				if ((unsigned char)*at < 0x20 || *at == 0x7f)
					return "CNI_* (a control character)";
	return NULL;
}
