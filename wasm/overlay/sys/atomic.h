#include <atomic.h>
