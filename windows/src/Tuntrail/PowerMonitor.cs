using System;
using System.Runtime.InteropServices;
using System.Threading.Tasks;
using Tuntrail.Native;

namespace Tuntrail
{
    /// <summary>
    /// Tells a client of sleep and power, until it is disposed of: before the machine sleeps, records are flushed to disk; when it has
    /// woken, a tunnel makes new sockets; automatic uploads heed the battery. Needs no window; sleeps otherwise.
    /// </summary>
    public sealed class PowerMonitor : IDisposable
    {
        // What the callbacks are told: PBT_...
        internal const uint Suspend = 4;
        internal const uint ResumeAutomatic = 0x12;
        internal const uint SettingChange = 0x8013;

        // GUID_ACDC_POWER_SOURCE, GUID_BATTERY_PERCENTAGE_REMAINING, GUID_POWER_SAVING_STATUS.
        private static readonly Guid[] Settings =
        {
            new Guid("5d3e9a59-e9d5-4b00-a6bd-ff34ff516548"),
            new Guid("a7ad8041-b45a-4cae-87a3-eecbb468a9e1"),
            new Guid("e00958c0-c213-4ace-ac77-fecced2eeea5"),
        };

        private readonly Client client;
        private readonly IPowerSystem system;
        private readonly Action<Exception> failed;
        // Windows calls it as long as a registration lives, also when nobody has kept this object.
        private readonly Functions.PowerCallback callback;
        private GCHandle root;
        private readonly IntPtr[] settings = new IntPtr[Settings.Length];
        private IntPtr sleep;
        // Changes may come on several threads; the last to read must be the last to tell.
        private readonly object turn = new object();
        // No status looks like this.
        private int told = -1;

        /// <summary>Tells the state, and watches.</summary>
        /// <param name="client">Who is told.</param>
        /// <param name="failed">Is called, on a thread of the pool, when the client could not be told; may be null.</param>
        public PowerMonitor(Client client, Action<Exception> failed)
            : this(client, new PowerSystem(), failed)
        {
        }

        internal PowerMonitor(Client client, IPowerSystem system, Action<Exception> failed)
        {
            this.client = client ?? throw new ArgumentNullException(nameof(client));
            this.system = system;
            this.failed = failed;
            callback = OnPower;
            root = GCHandle.Alloc(this);
            IntPtr pointer = Marshal.GetFunctionPointerForDelegate(callback);
            try
            {
                Tell();
                Functions.Check(system.WatchSleep(pointer, out sleep), "can't watch for sleep");
                for (int i = 0; i < Settings.Length; i++)
                {
                    Functions.Check(system.WatchSetting(Settings[i], pointer, out settings[i]), "can't watch the power supply");
                }
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        /// <summary>Stops watching; waits for a call that is under way.</summary>
        public void Dispose()
        {
            for (int i = 0; i < settings.Length; i++)
            {
                if (settings[i] != IntPtr.Zero)
                {
                    system.StopSetting(settings[i]);
                    settings[i] = IntPtr.Zero;
                }
            }
            if (sleep != IntPtr.Zero)
            {
                system.StopSleep(sleep);
                sleep = IntPtr.Zero;
            }
            if (root.IsAllocated)
            {
                root.Free();
            }
        }

        /// <summary>What Windows' numbers mean.</summary>
        internal static PowerState StateOf(SYSTEM_POWER_STATUS status)
        {
            const byte NoBattery = 128;
            const byte Unknown = 255;
            bool hasBattery = status.BatteryFlag == Unknown || (status.BatteryFlag & NoBattery) == 0;
            return new PowerState
            {
                BatteryPercent = hasBattery && status.BatteryLifePercent <= 100 ? (byte?)status.BatteryLifePercent : null,
                // A machine without a battery runs, so it has power.
                Charging = status.ACLineStatus == 1 || !hasBattery,
                LowPower = status.SystemStatusFlag == 1,
            };
        }

        private uint OnPower(IntPtr context, uint type, IntPtr setting)
        {
            try
            {
                switch (type)
                {
                    case Suspend:
                        client.Flush();
                        break;
                    case ResumeAutomatic:
                        client.RefreshTunnel();
                        Tell();
                        break;
                    case SettingChange:
                        Tell();
                        break;
                }
            }
            // Nothing may leave a function that Windows calls.
            catch (Exception error)
            {
                Task.Run(() => failed?.Invoke(error));
            }
            return 0;
        }

        private void Tell()
        {
            lock (turn)
            {
                SYSTEM_POWER_STATUS status;
                if (!system.TryGetStatus(out status))
                {
                    return;
                }
                // Windows tells up to three things about one change.
                int now = status.ACLineStatus | status.BatteryFlag << 8 | status.BatteryLifePercent << 16
                    | (status.SystemStatusFlag & 0x7f) << 24;
                if (told != now)
                {
                    client.SetPowerState(StateOf(status));
                    told = now;
                }
            }
        }
    }
}
