using System;
using System.Runtime.InteropServices;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>Who tells of sleep and power; another in tests. Errors are Windows' numbers, 0 is none.</summary>
    internal interface IPowerSystem
    {
        bool TryGetStatus(out SYSTEM_POWER_STATUS status);

        /// <summary>Calls back before and after sleep, until it is told to stop.</summary>
        uint WatchSleep(IntPtr callback, out IntPtr registration);

        /// <summary>Waits for a call that is under way.</summary>
        void StopSleep(IntPtr registration);

        /// <summary>Calls back when a setting has changed, until it is told to stop.</summary>
        uint WatchSetting(Guid setting, IntPtr callback, out IntPtr registration);

        /// <summary>Waits for a call that is under way.</summary>
        void StopSetting(IntPtr registration);
    }

    /// <summary>Windows' power management.</summary>
    internal sealed class PowerSystem : IPowerSystem
    {
        public bool TryGetStatus(out SYSTEM_POWER_STATUS status)
        {
            return Functions.GetSystemPowerStatus(out status);
        }

        public uint WatchSleep(IntPtr callback, out IntPtr registration)
        {
            DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS recipient = new DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS { Callback = callback };
            return Functions.PowerRegisterSuspendResumeNotification(Functions.NotifyByCallback, ref recipient, out registration);
        }

        public void StopSleep(IntPtr registration)
        {
            Functions.PowerUnregisterSuspendResumeNotification(registration);
        }

        public uint WatchSetting(Guid setting, IntPtr callback, out IntPtr registration)
        {
            DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS recipient = new DEVICE_NOTIFY_SUBSCRIBE_PARAMETERS { Callback = callback };
            return Functions.PowerSettingRegisterNotification(
                ref setting, Functions.NotifyByCallback, ref recipient, out registration);
        }

        public void StopSetting(IntPtr registration)
        {
            Functions.PowerSettingUnregisterNotification(registration);
        }
    }
}
