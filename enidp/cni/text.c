// SPDX-License-Identifier: Apache-2.0
// Growing text, whole writes, and the CNI error object.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cni.h"

int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

bool write_all(int fd, const char *data, size_t length)
{
	while (length > 0) {
		ssize_t written = write(fd, data, length);
		if (written < 0 && errno == EINTR)
			continue;
		if (written < 0 && errno == EAGAIN) {
			struct pollfd wait = {.fd = fd, .events = POLLOUT};
			if (poll(&wait, 1, OTHER_MS) <= 0)
				return false;
			continue;
		}
		if (written <= 0)
			return false;
		data += written;
		length -= (size_t)written;
	}
	return true;
}

bool append(struct buffer *buffer, const void *data, size_t length)
{
	if (buffer->length + length > buffer->capacity) {
		size_t capacity = (buffer->length + length) * 2;
		char *grown = realloc(buffer->data, capacity);
		if (!grown)
			return false;
		buffer->data = grown;
		buffer->capacity = capacity;
	}
	memcpy(buffer->data + buffer->length, data, length);
	buffer->length += length;
	return true;
}

bool append_text(struct buffer *buffer, const char *text)
{
	return append(buffer, text, strlen(text));
}

bool append_number(struct buffer *buffer, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return append(buffer, digits + at, sizeof(digits) - at);
}

// Text inside a JSON string: what JSON forbids there becomes '?', so that a strange path cannot break the
// object.
static void append_quoted(struct buffer *buffer, const char *text)
{
	for (; *text; text++) {
		char letter = (unsigned char)*text < 0x20 || *text == '"' || *text == '\\' || *text == 0x7f
				      ? '?'
				      : *text;
		append(buffer, &letter, 1);
	}
}

// Print a CNI error object; the exit code of the process.
int fail(enum cni_code code, const char *reason, const char *text, const char *subject, const char *details)
{
	struct buffer out = {0};
	append_text(&out, "{\"cniVersion\":\"1.0.0\",\"code\":");
	append_number(&out, code);
	append_text(&out, ",\"msg\":\"");
	append_text(&out, reason);
	append_text(&out, ": ");
	append_quoted(&out, text);
	append_quoted(&out, subject);
	append_text(&out, "\",\"details\":\"");
	append_quoted(&out, details);
	append_text(&out, "\"}\n");
	write_all(STDOUT_FILENO, out.data, out.length);
	return 1;
}
