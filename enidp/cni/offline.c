// SPDX-License-Identifier: Apache-2.0
// What is answered while no agent is there: DEL is queued, STATUS looks at the agent's stamp, the rest comes
// later.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cni.h"

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

// The agent's stamp is "BOOT_ID SECONDS", seconds of CLOCK_BOOTTIME: a changed wall clock or an old boot
// fools nobody.
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

int without_agent(const struct call *call)
{
	if (!strcmp(call->command, "DEL")) {
		if (queue_delete(call))
			return 0;
		return fail(TRY_LATER, "AgentUnreachable",
			    "the agent does not answer and the DEL cannot be queued beside ",
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
