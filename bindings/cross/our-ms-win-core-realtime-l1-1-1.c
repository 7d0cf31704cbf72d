/* A stand-in for a part of Windows' kernelbase.dll in which wine 8 lacks the clock that goes on during suspend. This one
   stands still then, which no test notices. */
/* Not windows.h: it declares the function as one that is imported. */
#include <windef.h>
#include <profileapi.h>

__declspec(dllexport) VOID WINAPI QueryInterruptTimePrecise(PULONGLONG time)
{
    LARGE_INTEGER count, frequency;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&frequency);
    /* In units of 100 ns. In two parts, as the product would overflow after a day. */
    *time = (ULONGLONG)(count.QuadPart / frequency.QuadPart) * 10000000
          + (ULONGLONG)(count.QuadPart % frequency.QuadPart) * 10000000 / frequency.QuadPart;
}
