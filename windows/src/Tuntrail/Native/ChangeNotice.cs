using System;
using System.Runtime.InteropServices;

namespace Tuntrail.Native
{
    /// <summary>Tells of changes that Windows sees until it is disposed of, on a thread of Windows. What it calls must not throw.</summary>
    internal sealed class ChangeNotice : IDisposable
    {
        // Windows calls it as long as the registration lives, also when nobody has kept this object.
        private readonly Functions.ChangeCallback callback;
        private GCHandle root;
        private IntPtr registration;

        private ChangeNotice(Action changed)
        {
            callback = (context, row, kind) => changed();
            root = GCHandle.Alloc(this);
        }

        /// <summary>Of the interfaces of a family: made, gone, connected, set.</summary>
        internal static ChangeNotice OfInterfaces(ushort family, Action changed)
        {
            ChangeNotice notice = new ChangeNotice(changed);
            return notice.Check(
                Functions.NotifyIpInterfaceChange(family, notice.callback, IntPtr.Zero, 0, out notice.registration),
                "can't watch the interfaces");
        }

        /// <summary>Of the routes of a family.</summary>
        internal static ChangeNotice OfRoutes(ushort family, Action changed)
        {
            ChangeNotice notice = new ChangeNotice(changed);
            return notice.Check(
                Functions.NotifyRouteChange2(family, notice.callback, IntPtr.Zero, 0, out notice.registration),
                "can't watch the routes");
        }

        /// <summary>Waits for a call that is under way: not to be called in one.</summary>
        public void Dispose()
        {
            if (registration != IntPtr.Zero)
            {
                Functions.CancelMibChangeNotify2(registration);
                registration = IntPtr.Zero;
            }
            if (root.IsAllocated)
            {
                root.Free();
            }
        }

        private ChangeNotice Check(uint error, string what)
        {
            if (error != 0)
            {
                root.Free();
            }
            Functions.Check(error, what);
            return this;
        }
    }
}
