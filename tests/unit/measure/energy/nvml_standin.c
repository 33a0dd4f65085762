/* Stand-in for libnvidia-ml.so.1: two GPUs and one MIG instance on the second, steered by environment variables.
 *
 * NVML_FAIL      name=code[,name=code...]: these functions return this nvmlReturn_t
 * NVML_PROCESS   bytes of the calling process; "unknown": not available (all bits set); "unlisted": left out
 * NVML_EVENTS    clock event reasons, a number
 * NVML_STEP_MJ   by how much the energy counter moves at each reading
 * NVML_STEP_MW   by how much the power rises at each reading
 * NVML_OTHERS    number of other compute processes, by default 1
 * NVML_MPS       number of MPS clients, by default 0
 * NVML_USED      bytes used on the device, by default 2000
 *
 * With -DOLD_DRIVER the functions that came late are left out.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int ret_t;
typedef struct { const char *uuid; int is_mig, is_split, index; } device_t;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process_t;

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };

static device_t devices[] = {
    {"GPU-00000000-0000-0000-0000-00000000aaaa", 0, 0, 0},
    {"GPU-00000000-0000-0000-0000-00000000bbbb", 0, 0, 1},
    {"GPU-00000000-0000-0000-0000-00000000cccc", 0, 1, 2},
    {"MIG-00000000-0000-0000-0000-00000000dddd", 1, 0, 3},
};
static device_t *const parent = &devices[2];

static unsigned long long number(const char *variable, unsigned long long otherwise) {
    const char *text = getenv(variable);
    return text ? strtoull(text, NULL, 0) : otherwise;
}

static ret_t failure(const char *function) {
    const char *at = getenv("NVML_FAIL");
    size_t length = strlen(function);
    for (; at && *at; at = strchr(at, ','), at = at ? at + 1 : NULL)
        if (!strncmp(at, function, length) && at[length] == '=') return atoi(at + length + 1);
    return SUCCESS;
}

#define FAIL_IF_TOLD { ret_t told = failure(__func__); if (told) return told; }
#define WHOLE_GPU_ONLY(device) if ((device)->is_mig) return NOT_SUPPORTED;

ret_t nvmlInitWithFlags(unsigned flags) { (void)flags; FAIL_IF_TOLD; return SUCCESS; }
ret_t nvmlShutdown(void) { FAIL_IF_TOLD; return SUCCESS; }
const char *nvmlErrorString(ret_t code) { (void)code; return "an error of the stand-in"; }

ret_t nvmlSystemGetDriverVersion(char *text, unsigned length) {
    FAIL_IF_TOLD;
    strncpy(text, "999.01", length);
    return SUCCESS;
}

ret_t nvmlDeviceGetHandleByUUID(const char *uuid, device_t **device) {
    FAIL_IF_TOLD;
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (!strcmp(uuid, devices[i].uuid)) { *device = &devices[i]; return SUCCESS; }
    return NOT_FOUND;
}

ret_t nvmlDeviceIsMigDeviceHandle(device_t *device, unsigned *is_mig) {
    FAIL_IF_TOLD;
    *is_mig = device->is_mig;
    return SUCCESS;
}

ret_t nvmlDeviceGetMigMode(device_t *device, unsigned *current, unsigned *pending) {
    FAIL_IF_TOLD;
    *current = *pending = device->is_split;
    return SUCCESS;
}

ret_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_t *device, device_t **whole) {
    FAIL_IF_TOLD;
    (void)device;
    *whole = parent;
    return SUCCESS;
}

ret_t nvmlDeviceGetEccMode(device_t *device, unsigned *current, unsigned *pending) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *current = 1;
    *pending = 0;
    return SUCCESS;
}

ret_t nvmlDeviceGetClockInfo(device_t *device, unsigned type, unsigned *mhz) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *mhz = 1000 * type + device->index;
    return SUCCESS;
}

ret_t nvmlDeviceGetApplicationsClock(device_t *device, unsigned type, unsigned *mhz) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *mhz = 1100 * type;
    return SUCCESS;
}

ret_t nvmlDeviceGetEnforcedPowerLimit(device_t *device, unsigned *mw) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *mw = 400500;
    return SUCCESS;
}

ret_t nvmlDeviceGetPowerUsage(device_t *device, unsigned *mw) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    static unsigned power_mw = 123400;
    *mw = power_mw;
    power_mw += number("NVML_STEP_MW", 0);
    return SUCCESS;
}

typedef struct { unsigned gpu, memory; } utilization_t;

ret_t nvmlDeviceGetUtilizationRates(device_t *device, utilization_t *rates) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *rates = (utilization_t){87, 40};
    return SUCCESS;
}

ret_t nvmlDeviceGetTemperature(device_t *device, unsigned sensor, unsigned *celsius) {
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *celsius = 60 + sensor;
    return SUCCESS;
}

static ret_t clock_events(device_t *device, unsigned long long *reasons) {
    const char *events = getenv("NVML_EVENTS");
    WHOLE_GPU_ONLY(device);
    *reasons = events ? strtoull(events, NULL, 0) : 0;
    return SUCCESS;
}

#ifdef OLD_DRIVER

ret_t nvmlDeviceGetCurrentClocksThrottleReasons(device_t *device, unsigned long long *reasons) {
    FAIL_IF_TOLD;
    return clock_events(device, reasons);
}

#else

ret_t nvmlDeviceGetCurrentClocksEventReasons(device_t *device, unsigned long long *reasons) {
    FAIL_IF_TOLD;
    return clock_events(device, reasons);
}

ret_t nvmlDeviceGetTotalEnergyConsumption(device_t *device, unsigned long long *mj) {
    static unsigned long long counter_mj = 5000000;
    const char *step = getenv("NVML_STEP_MJ");
    FAIL_IF_TOLD;
    WHOLE_GPU_ONLY(device);
    *mj = counter_mj;
    counter_mj += step ? strtoull(step, NULL, 0) : 0;
    return SUCCESS;
}

ret_t nvmlDeviceGetMemoryInfo_v2(device_t *device, memory_v2_t *memory) {
    FAIL_IF_TOLD;
    memory->total = device->is_mig ? 10000 : 80000;
    memory->reserved = 500;
    memory->used = number("NVML_USED", 2000);
    memory->free = memory->total - memory->reserved - memory->used;
    return SUCCESS;
}

ret_t nvmlDeviceGetComputeRunningProcesses_v3(device_t *device, unsigned *count, process_t *processes) {
    const char *mine = getenv("NVML_PROCESS");
    unsigned others = number("NVML_OTHERS", 1), listed = others + (mine && !strcmp(mine, "unlisted") ? 0 : 1);
    FAIL_IF_TOLD;
    (void)device;
    if (*count < listed) { *count = listed; return INSUFFICIENT_SIZE; }
    *count = listed;
    for (unsigned i = 0; i < others; i++) processes[i] = (process_t){1 + i, 777, 0, 0};
    if (listed > others)
        processes[others] = (process_t){getpid(), mine && !strcmp(mine, "unknown") ? ~0ULL : strtoull(mine ? mine : "0", NULL, 0), 0, 0};
    return SUCCESS;
}

ret_t nvmlDeviceGetMPSComputeRunningProcesses_v3(device_t *device, unsigned *count, process_t *processes) {
    unsigned listed = number("NVML_MPS", 0);
    FAIL_IF_TOLD;
    (void)device;
    if (*count < listed) { *count = listed; return INSUFFICIENT_SIZE; }
    *count = listed;
    for (unsigned i = 0; i < listed; i++) processes[i] = (process_t){1 + i, 777, 0, 0};
    return SUCCESS;
}

#endif
