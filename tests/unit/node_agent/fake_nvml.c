/* A stand-in for libnvidia-ml.so.1 that says what the environment variable FAKE_NVML tells it.
 *
 * One GPU per ';': name|total MiB|major.minor|active links|MIG|processes
 *   MIG: "-" not supported, "0" off, or slices "1g.5gb=4864,2g.10gb=9984"
 *   processes: "pid=MiB,pid=MiB" or empty
 * FAKE_NVML unset: no driver (nvmlInit fails as it does without one).
 * Handles are 1-based GPU numbers; a MIG device's handle is gpu * 1000 + index + 1.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
#define MIB 1048576ULL

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } process_t;
typedef struct { unsigned numbers[8]; unsigned long long memory_mb; } attributes_t;

/* Copies the index-th part of text between separators; returns 0 when there is none. */
static int part(const char *text, char separator, int index, char *out, size_t size) {
    const char *start = text;
    for (; index > 0; index--) {
        start = strchr(start, separator);
        if (!start) return 0;
        start++;
    }
    const char *end = strchr(start, separator);
    size_t length = end ? (size_t)(end - start) : strlen(start);
    if (length >= size) length = size - 1;
    memcpy(out, start, length);
    out[length] = 0;
    return 1;
}

static int field(uintptr_t gpu, int index, char *out, size_t size) {
    char one[1024];
    return part(getenv("FAKE_NVML"), ';', (int)gpu - 1, one, sizeof one) && part(one, '|', index, out, size);
}

static int pair(uintptr_t gpu, int index, int position, char *key, size_t size, unsigned long long *value) {
    char list[512], one[64];
    if (!field(gpu, index, list, sizeof list) || !list[0] || !strchr(list, '=')) return 0;
    if (!part(list, ',', position, one, sizeof one)) return 0;
    char *equals = strchr(one, '=');
    *equals = 0;
    snprintf(key, size, "%s", one);
    *value = strtoull(equals + 1, 0, 10);
    return 1;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return getenv("FAKE_NVML") ? OK : DRIVER_NOT_LOADED; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int result) { return result == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "Error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    char one[1024];
    *count = 0;
    if (!getenv("FAKE_NVML")[0]) return OK;
    while (part(getenv("FAKE_NVML"), ';', (int)*count, one, sizeof one)) ++*count;
    return OK;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, uintptr_t *device) { *device = index + 1; return OK; }
int nvmlSystemGetDriverVersion(char *version, unsigned length) { snprintf(version, length, "550.107.02"); return OK; }
int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12040; return OK; }

int nvmlDeviceGetName(uintptr_t device, char *name, unsigned length) {
    char profile[64], base[256];
    unsigned long long memory;
    uintptr_t gpu = device >= 1000 ? device / 1000 : device;
    if (!field(gpu, 0, base, sizeof base)) return NOT_FOUND;
    if (device < 1000) snprintf(name, length, "%s", base);
    else if (pair(gpu, 4, (int)(device % 1000) - 1, profile, sizeof profile, &memory))
        snprintf(name, length, "%s MIG %s", base, profile);
    else return NOT_FOUND;
    return OK;
}

int nvmlDeviceGetMemoryInfo(uintptr_t device, memory_t *memory) {
    char text[64];
    if (!field(device, 1, text, sizeof text)) return NOT_FOUND;
    if (text[0] == '-') return NOT_SUPPORTED;
    memory->total = strtoull(text, 0, 10) * MIB;
    memory->used = memory->free = memory->total / 2;
    return OK;
}

int nvmlDeviceGetCudaComputeCapability(uintptr_t device, int *major, int *minor) {
    char text[64];
    return field(device, 2, text, sizeof text) && sscanf(text, "%d.%d", major, minor) == 2 ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetNvLinkState(uintptr_t device, unsigned link, unsigned *active) {
    char text[64];
    if (!field(device, 3, text, sizeof text) || text[0] == '-' || link >= 18) return NOT_SUPPORTED;
    *active = link < (unsigned)atoi(text);
    return OK;
}

int nvmlDeviceGetMigMode(uintptr_t device, unsigned *current, unsigned *pending) {
    char text[512];
    if (!field(device, 4, text, sizeof text) || text[0] == '-') return NOT_SUPPORTED;
    *current = *pending = strchr(text, '=') != 0;
    return OK;
}

int nvmlDeviceGetMaxMigDeviceCount(uintptr_t device, unsigned *count) { (void)device; *count = 7; return OK; }

int nvmlDeviceGetMigDeviceHandleByIndex(uintptr_t device, unsigned index, uintptr_t *mig) {
    char profile[64];
    unsigned long long memory;
    *mig = device * 1000 + index + 1;
    return pair(device, 4, (int)index, profile, sizeof profile, &memory) ? OK : NOT_FOUND;
}

int nvmlDeviceGetAttributes_v2(uintptr_t device, attributes_t *attributes) {
    char profile[64];
    memset(attributes, 0, sizeof *attributes);
    int found = pair(device / 1000, 4, (int)(device % 1000) - 1, profile, sizeof profile, &attributes->memory_mb);
    return found ? OK : NOT_SUPPORTED;
}

int nvmlDeviceGetComputeRunningProcesses_v3(uintptr_t device, unsigned *count, process_t *processes) {
    char pid[64];
    unsigned long long mib;
    unsigned number = 0;
    for (; pair(device, 5, (int)number, pid, sizeof pid, &mib); number++)
        if (processes && number < *count) {
            memset(&processes[number], 0, sizeof *processes);
            processes[number].pid = (unsigned)strtoul(pid, 0, 10);
            processes[number].used = mib * MIB;
        }
    int fits = processes ? number <= *count : number == 0;
    *count = number;
    return fits ? OK : INSUFFICIENT_SIZE;
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(uintptr_t device, unsigned *count, process_t *processes) {
    (void)device; (void)processes;
    *count = 0;
    return OK;
}
