// SPDX-License-Identifier: Apache-2.0
//
// enitide-cni: the CNI plugin of enitide, as small as a messenger can be.
//
// It hands every call to the node's agent over a Unix socket and prints what comes back. It parses no JSON and decides
// nothing, so that it starts in under a millisecond and never has to be replaced together with the agent:
//
//   POST /v1/cni/COMMAND, standard input as body, each CNI_* variable as header Cni-*
//   200 -> body and exit 0; anything else -> body, a CNI error object, and exit 1
//
// Three things it answers without an agent: VERSION (static), DEL (queued beside the socket for the agent to find, so
// that pods can always be removed), and STATUS while the agent lived within the last 120 s of this boot (a restart of
// the agent must not make the node NotReady with all its pods). It must never wait without an end.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/enitide/agent.sock"
#define VERSIONS "{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"

enum {
	MAX_INPUT = 1 << 20, // a network configuration is a few KB, a GC list of 1,000 attachments about 100 KB
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

enum cni_code { BAD_VARIABLES = 4, IO_FAILURE = 5, DECODE = 6, TRY_LATER = 11, NOT_AVAILABLE = 50 };

struct buffer {
	char *data;
	size_t length;
	size_t capacity;
};

struct call {
	const char *command;
	const char *socket_path;
	struct buffer request; // headers and body, as sent and as queued
};

static int64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

// --- output ---------------------------------------------------------------------------------------------------------

static bool write_all(int fd, const char *data, size_t length)
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

static bool append(struct buffer *buffer, const void *data, size_t length)
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

static bool append_text(struct buffer *buffer, const char *text)
{
	return append(buffer, text, strlen(text));
}

static bool append_number(struct buffer *buffer, uint64_t number)
{
	char digits[20];
	size_t at = sizeof(digits);
	do {
		digits[--at] = (char)('0' + number % 10);
		number /= 10;
	} while (number > 0);
	return append(buffer, digits + at, sizeof(digits) - at);
}

// Text inside a JSON string: what JSON forbids there becomes '?', so that a strange path cannot break the object.
static void append_quoted(struct buffer *buffer, const char *text)
{
	for (; *text; text++) {
		char letter = (unsigned char)*text < 0x20 || *text == '"' || *text == '\\' || *text == 0x7f ? '?' : *text;
		append(buffer, &letter, 1);
	}
}

// Print a CNI error object; the exit code of the process.
static int fail(enum cni_code code, const char *reason, const char *text, const char *subject, const char *details)
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

// --- input ----------------------------------------------------------------------------------------------------------

// Standard input to its end: false with errno EFBIG (too long) or ETIMEDOUT (nobody closes it).
static bool read_input(struct buffer *input)
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

static const char *variable(const char *name)
{
	const char *value = getenv(name);
	return value ? value : "";
}

static bool is_letter_or_digit(char letter)
{
	return (letter >= 'a' && letter <= 'z') || (letter >= 'A' && letter <= 'Z') || (letter >= '0' && letter <= '9');
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

// The name of the first CNI variable that this command needs and that is missing or wrong; NULL if all are well.
static const char *wrong_variable(const char *command)
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

// --- the call -------------------------------------------------------------------------------------------------------

static bool append_headers(struct call *call, size_t body_length)
{
	struct buffer *out = &call->request;
	append_text(out, "POST /v1/cni/");
	append_text(out, call->command);
	append_text(out, " HTTP/1.1\r\nHost: agent\r\nConnection: close\r\nContent-Type: application/json\r\n");
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
	append_text(out, "Content-Length: ");
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
		if (reply->length + (size_t)got > MAX_REPLY + MAX_HEADERS || !append(reply, chunk, (size_t)got))
			return false;
	}
}

struct answer {
	int status; // HTTP
	const char *body;
	size_t length;
};

// Only a reply whose body has the length it announces counts: an agent killed while writing must not look like success.
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
static bool ask_agent(const struct call *call, struct buffer *reply, struct answer *answer)
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

// --- without an agent -----------------------------------------------------------------------------------------------

static void beside_socket(const struct call *call, const char *name, struct buffer *path)
{
	const char *slash = strrchr(call->socket_path, '/');
	if (slash)
		append(path, call->socket_path, (size_t)(slash - call->socket_path) + 1);
	append_text(path, name);
	append(path, "", 1);
}

// One file per container and interface, so that a repeated DEL replaces its forerunner; whole or not at all.
static bool queue_delete(const struct call *call)
{
	struct buffer folder = {0}, temporary = {0}, final = {0};
	beside_socket(call, "", &folder);
	if (mkdir(folder.data, 0755) < 0 && errno != EEXIST)
		return false;
	folder.length = 0;
	beside_socket(call, "spool", &folder);
	if (mkdir(folder.data, 0700) < 0 && errno != EEXIST)
		return false;
	beside_socket(call, "spool/.", &temporary);
	temporary.length--;
	append_number(&temporary, (uint64_t)getpid());
	append_text(&temporary, ".");
	append_number(&temporary, (uint64_t)now_ms());
	append(&temporary, "", 1);
	beside_socket(call, "spool/", &final);
	final.length--;
	append_text(&final, variable("CNI_CONTAINERID"));
	append_text(&final, "@");
	append_text(&final, variable("CNI_IFNAME"));
	append(&final, "", 1);
	int fd = open(temporary.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	bool written = write_all(fd, call->request.data, call->request.length);
	int reason = written ? 0 : errno;
	if (close(fd) < 0 && written) {
		written = false;
		reason = errno;
	}
	if (written && rename(temporary.data, final.data) == 0)
		return true;
	if (written)
		reason = errno;
	unlink(temporary.data);
	errno = reason;
	return false;
}

static ssize_t read_file(const char *path, char *data, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	ssize_t got = read(fd, data, size - 1);
	close(fd);
	if (got >= 0)
		data[got] = '\0';
	return got;
}

// The agent's stamp is "BOOT_ID SECONDS", seconds of CLOCK_BOOTTIME: a changed wall clock or an old boot fools nobody.
static bool lived_lately(const struct call *call)
{
	char stamp[128], boot[128];
	struct buffer path = {0};
	beside_socket(call, "alive", &path);
	if (read_file(path.data, stamp, sizeof(stamp)) <= UUID_LENGTH + 1)
		return false;
	if (read_file("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)) < UUID_LENGTH)
		return false;
	if (strncmp(stamp, boot, UUID_LENGTH) != 0)
		return false;
	long long then_s = strtoll(stamp + UUID_LENGTH + 1, NULL, 10), now_s = now_ms() / 1000;
	return then_s <= now_s && now_s - then_s <= ALIVE_S;
}

static int without_agent(const struct call *call)
{
	if (!strcmp(call->command, "DEL")) {
		if (queue_delete(call))
			return 0;
		return fail(TRY_LATER, "AgentUnreachable", "the agent does not answer and the DEL cannot be queued beside ",
			    call->socket_path, strerror(errno));
	}
	if (!strcmp(call->command, "STATUS")) {
		if (lived_lately(call))
			return 0;
		return fail(NOT_AVAILABLE, "AgentUnreachable", "the agent has not answered for 120 s on ",
			    call->socket_path, "Is the enitide agent running on this node?");
	}
	return fail(TRY_LATER, "AgentUnreachable", "the agent does not answer on ", call->socket_path,
		    "Is the enitide agent running on this node? The call is safe to repeat.");
}

static bool is_command(const char *command)
{
	static const char *const known[] = {"ADD", "DEL", "CHECK", "GC", "STATUS"};
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (!strcmp(command, known[i]))
			return true;
	return false;
}

static int run(struct call *call)
{
	struct buffer input = {0}, reply = {0};
	struct answer answer = {0};
	const char *wrong = wrong_variable(call->command);
	if (wrong)
		return fail(BAD_VARIABLES, "BadRequest", "missing or wrong variable: ", wrong,
			    "A container id is letters, digits, '_', '.', '-'; an interface name has 1 to 15 characters.");
	if (strlen(call->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return fail(BAD_VARIABLES, "BadRequest", "ENITIDE_SOCKET is longer than 107 bytes: ", call->socket_path, "");
	if (!read_input(&input))
		return fail(errno == EFBIG ? DECODE : IO_FAILURE, "BadRequest",
			    "the network configuration on standard input cannot be read: ", strerror(errno),
			    "It must be JSON of at most 1 MiB, closed within 10 s.");
	if (!append_headers(call, input.length))
		return fail(BAD_VARIABLES, "BadRequest", "the CNI_* variables are longer than 64 KiB", "", "");
	if (input.length > 0 && !append(&call->request, input.data, input.length))
		return fail(IO_FAILURE, "Internal", "no memory", "", "");
	if (!ask_agent(call, &reply, &answer))
		return without_agent(call);
	if (answer.status != 200 && answer.length == 0)
		return fail(IO_FAILURE, "Internal", "the agent refused the call without an error object", "", "");
	if (!write_all(STDOUT_FILENO, answer.body, answer.length))
		return 1;
	return answer.status == 200 ? 0 : 1;
}

int main(void)
{
	struct call call = {.command = variable("CNI_COMMAND"), .socket_path = variable("ENITIDE_SOCKET")};
	signal(SIGPIPE, SIG_IGN);
	if (!*call.socket_path)
		call.socket_path = DEFAULT_SOCKET;
	if (!strcmp(call.command, "VERSION"))
		return write_all(STDOUT_FILENO, VERSIONS, strlen(VERSIONS)) ? 0 : 1;
	if (!is_command(call.command))
		return fail(BAD_VARIABLES, "BadRequest", "CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION, not: ",
			    call.command, "A container runtime sets it; to look at the node, run: enitide ipam show");
	return run(&call);
}
