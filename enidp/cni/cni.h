// SPDX-License-Identifier: Apache-2.0
// What the parts of enitide-cni share: limits, the growing buffer, the call. One part per concern: text.c
// (buffers and error objects), input.c (variables and standard input), agent.c (the call over the socket),
// offline.c (without an agent).
#ifndef ENITIDE_CNI_H
#define ENITIDE_CNI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
	MAX_INPUT =
		1 << 20, // a network configuration is a few KB, a GC list of 1,000 attachments about 100 KB
	MAX_REPLY = 1 << 20,
	MAX_HEADERS = 64 << 10,
	MAX_CONTAINER_ID = 200, // it becomes part of a file name
	MAX_IFNAME = 15, // IFNAMSIZ without the end
	INPUT_MS = 10 * 1000,
	CONNECT_MS = 5 * 1000,
	ADD_MS = 120 * 1000, // above any sensible addWait, below the runtime's own limit
	OTHER_MS = 30 * 1000,
	ALIVE_S = 120,
	UUID_LENGTH = 36,
};

// Of the CNI specification, section Error.
enum cni_code { BAD_VARIABLES = 4, IO_FAILURE = 5, DECODE = 6, TRY_LATER = 11, NOT_AVAILABLE = 50 };

struct buffer {
	char *data;
	size_t length;
	size_t capacity;
};

struct call {
	const char *command;
	const char *socket_path;
	int64_t began_ms; // tells a late ADD from a new one
	struct buffer request; // headers and body, as sent and as queued
};

struct answer {
	int status; // HTTP
	const char *body;
	size_t length;
};

// text.c
int64_t now_ms(void); // of CLOCK_BOOTTIME
bool write_all(int fd, const char *data, size_t length);
bool append(struct buffer *buffer, const void *data, size_t length);
bool append_text(struct buffer *buffer, const char *text);
bool append_number(struct buffer *buffer, uint64_t number);
int fail(enum cni_code code, const char *reason, const char *text, const char *subject, const char *details);

// input.c
const char *variable(const char *name);
const char *wrong_variable(const char *command);
bool read_input(struct buffer *input);

// agent.c
bool append_headers(struct call *call, size_t body_length);
bool ask_agent(const struct call *call, struct buffer *reply, struct answer *answer);

// offline.c
int without_agent(const struct call *call);

#endif
