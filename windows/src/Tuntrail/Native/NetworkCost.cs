// The two COM interfaces by which Windows tells what a connection costs.
using System;
using System.Runtime.InteropServices;

namespace Tuntrail.Native
{
    /// <summary>INetworkCostManager. Only the first method is used; those after it need no declaration.</summary>
    [ComImport]
    [Guid("dcb00008-570f-4a9b-8d69-199fdba5723b")]
    [InterfaceType(ComInterfaceType.InterfaceIsIUnknown)]
    internal interface INetworkCostManager
    {
        /// <summary>With no destination: of the machine's connection to the Internet.</summary>
        void GetCost(out uint cost, IntPtr destination);
    }

    internal static class NetworkCost
    {
        internal const uint Unknown = 0;
        internal const uint Fixed = 2;
        internal const uint Variable = 4;
        internal const uint OverDataLimit = 0x10000;
        internal const uint Roaming = 0x40000;
        internal const uint ApproachingDataLimit = 0x80000;

        private static readonly Guid NetworkListManager = new Guid("dcb00c01-570f-4a9b-8d69-199fdba5723b");

        /// <summary>NLM_CONNECTION_COST. Unknown where the service that knows does not run, such as early at boot.</summary>
        internal static uint Read()
        {
            try
            {
                object manager = Activator.CreateInstance(Type.GetTypeFromCLSID(NetworkListManager, true));
                try
                {
                    uint cost;
                    ((INetworkCostManager)manager).GetCost(out cost, IntPtr.Zero);
                    return cost;
                }
                finally
                {
                    Marshal.ReleaseComObject(manager);
                }
            }
            catch (COMException)
            {
                return Unknown;
            }
            catch (InvalidCastException)
            {
                return Unknown;
            }
        }
    }
}
