/* Declares of Apple's unified log what the C part of the oslog crate uses, so that it compiles without Apple's SDK. For
   checks only: nothing is ever linked with it. */
#pragma once
#include <stdint.h>

typedef struct os_log_s *os_log_t;
typedef uint8_t os_log_type_t;

extern struct os_log_s _os_log_default;
#define OS_LOG_DEFAULT (&_os_log_default)

void os_log_with_type(os_log_t log, os_log_type_t type, const char *format, ...);
void os_log(os_log_t log, const char *format, ...);
void os_log_debug(os_log_t log, const char *format, ...);
void os_log_info(os_log_t log, const char *format, ...);
void os_log_error(os_log_t log, const char *format, ...);
void os_log_fault(os_log_t log, const char *format, ...);
