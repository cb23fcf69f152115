// SPDX-License-Identifier: Apache-2.0
// The call over the agent's socket. Only a whole answer counts; everything is bounded in time.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cni.h"

bool append_headers(struct call *call, size_t body_length)
{
	struct buffer *out = &call->request;
	append_text(out, "POST /v1/cni/");
	append_text(out, call->command);
	append_text(out,
		    " HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\n");
	for (char **entry = environ; *entry; entry++) {
		const char *equals = strchr(*entry, '=');
		if (strncmp(*entry, "CNI_", 4) != 0 || !equals)
			continue;
		append_text(out, "Cni-");
		for (const char *at = *entry + 4; at < equals; at++)
			append(out, *at == '_' ? "-" : at, 1);
		append_text(out, ": ");
		append_text(out, equals + 1);
		append_text(out, "\r\n");
	}
	append_text(out, "Enitide-Began: ");
	append_number(out, (uint64_t)call->began_ms);
	append_text(out, "\r\nContent-Length: ");
	append_number(out, body_length);
	append_text(out, "\r\n\r\n");
	return out->data && out->length <= MAX_HEADERS;
}

static int connect_agent(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = CONNECT_MS / 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	memcpy(address.sun_path, path, strlen(path) + 1);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	int result;
	do
		result = connect(fd, (struct sockaddr *)&address, sizeof(address));
	while (result < 0 && errno == EINTR);
	if (result < 0) {
		int reason = errno;
		close(fd);
		errno = reason;
		return -1;
	}
	return fd;
}

// The agent closes after its reply: read to the end, for at most `limit_ms` in all.
static bool read_reply(int fd, int64_t limit_ms, struct buffer *reply)
{
	char chunk[16384];
	int64_t deadline = now_ms() + limit_ms;
	for (;;) {
		struct pollfd wait = {.fd = fd, .events = POLLIN};
		int64_t left = deadline - now_ms();
		int ready = poll(&wait, 1, left > 0 ? (int)left : 0);
		if (ready < 0 && errno == EINTR)
			continue;
		if (ready <= 0)
			return false;
		ssize_t got = recv(fd, chunk, sizeof(chunk), 0);
		if (got < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (got < 0)
			return false;
		if (got == 0)
			return true;
		if (reply->length + (size_t)got > MAX_REPLY + MAX_HEADERS ||
		    !append(reply, chunk, (size_t)got))
			return false;
	}
}

// Only a reply whose body has the length it announces counts: an agent killed while writing must not look
// like success.
static bool parse_reply(struct buffer *reply, struct answer *answer)
{
	if (!append(reply, "", 1))
		return false;
	reply->length--;
	const char *end = strstr(reply->data, "\r\n\r\n");
	if (reply->length < 12 || strncmp(reply->data, "HTTP/1.", 7) != 0 || !end)
		return false;
	answer->status = atoi(reply->data + 9);
	const char *header = strcasestr(reply->data, "\r\ncontent-length:");
	if (!header || header > end)
		return false;
	answer->body = end + 4;
	answer->length = reply->length - (size_t)(answer->body - reply->data);
	return strtoull(header + strlen("\r\ncontent-length:"), NULL, 10) == answer->length;
}

// True if the agent gave a whole answer.
bool ask_agent(const struct call *call, struct buffer *reply, struct answer *answer)
{
	int fd = connect_agent(call->socket_path);
	if (fd < 0)
		return false;
	int64_t limit_ms = strcmp(call->command, "ADD") == 0 ? ADD_MS : OTHER_MS;
	// A reply may come before everything is written (a refusal): a failed write alone decides nothing.
	write_all(fd, call->request.data, call->request.length);
	bool whole = read_reply(fd, limit_ms, reply) && parse_reply(reply, answer);
	close(fd);
	return whole;
}
