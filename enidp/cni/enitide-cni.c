// SPDX-License-Identifier: Apache-2.0
//
// enitide-cni: the CNI plugin of enitide, as small as a messenger can be.
//
// It hands every call to the node's agent over a Unix socket and prints what comes back. It parses no JSON
// and decides nothing, so that it starts in under a millisecond and never has to be replaced together with
// the agent:
//
//   POST /v1/cni/COMMAND, standard input as body, each CNI_* variable as header Cni-*, and when it began
//   200 -> body and exit 0; anything else -> body, a CNI error object, and exit 1
//
// Three things it answers without an agent: VERSION (static), DEL (queued beside the socket for the agent to
// find, so that pods can always be removed), and STATUS while the agent lived within the last 120 s of this
// boot (a restart of the agent must not make the node NotReady with all its pods). It must never wait without
// an end.

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "cni.h"

#define DEFAULT_SOCKET "/run/enitide/agent.sock"
#define VERSIONS                                                                                             \
	"{\"cniVersion\":\"1.1.0\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n"

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
			    "A container id is letters, digits, '_', '.', '-'; an interface name has 1 to 15 "
			    "characters.");
	if (strlen(call->socket_path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return fail(BAD_VARIABLES, "BadRequest",
			    "ENITIDE_SOCKET is longer than 107 bytes: ", call->socket_path, "");
	if (!read_input(&input))
		return fail(errno == EFBIG ? DECODE : IO_FAILURE, "BadRequest",
			    "the network configuration on standard input cannot be read: ", strerror(errno),
			    "It must be JSON of at most 1 MiB, closed within 10 s.");
	if (!append_headers(call, input.length))
		return fail(BAD_VARIABLES, "BadRequest", "the CNI_* variables are longer than 64 KiB", "",
			    "");
	if (input.length > 0 && !append(&call->request, input.data, input.length))
		return fail(IO_FAILURE, "Internal", "no memory", "", "");
	if (!ask_agent(call, &reply, &answer))
		return without_agent(call);
	if (answer.status != 200 && answer.length == 0)
		return fail(IO_FAILURE, "Internal", "the agent refused the call without an error object", "",
			    "");
	if (!write_all(STDOUT_FILENO, answer.body, answer.length))
		return 1;
	return answer.status == 200 ? 0 : 1;
}

int main(void)
{
	struct call call = {.command = variable("CNI_COMMAND"),
			    .socket_path = variable("ENITIDE_SOCKET"),
			    .began_ms = now_ms()};
	signal(SIGPIPE, SIG_IGN);
	if (!*call.socket_path)
		call.socket_path = DEFAULT_SOCKET;
	if (!strcmp(call.command, "VERSION"))
		return write_all(STDOUT_FILENO, VERSIONS, strlen(VERSIONS)) ? 0 : 1;
	if (!is_command(call.command))
		return fail(BAD_VARIABLES, "BadRequest",
			    "CNI_COMMAND must be ADD, DEL, CHECK, GC, STATUS or VERSION, not: ", call.command,
			    "A container runtime sets it; to look at the node, run: enitide ipam show");
	return run(&call);
}
