/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0) */
/* The node's constants. A section of its own, so that the loader replaces the whole of it and nothing else.
 * The values written here never run: the loader refuses to load a set that it has not patched. */
#pragma once

#include <bpf/bpf_helpers.h>

#include "structs.h"

const volatile struct node_config node_config SEC(".rodata.config") = {};
