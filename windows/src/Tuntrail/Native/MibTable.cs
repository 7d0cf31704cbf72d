using System;
using System.Collections.Generic;
using System.Runtime.InteropServices;

namespace Tuntrail.Native
{
    /// <summary>A function that makes a table of all rows of a family, to be freed by FreeMibTable.</summary>
    internal delegate uint MibTableFunction(ushort family, out IntPtr table);

    /// <summary>Tables of IP Helper: a count, and rows behind it.</summary>
    internal static class MibTable
    {
        /// <summary>The rows, none if there is no table. Throws <see cref="System.ComponentModel.Win32Exception"/>.</summary>
        /// <typeparam name="TTable">The table, whose field Table is the first row.</typeparam>
        /// <typeparam name="TRow">A row.</typeparam>
        internal static List<TRow> Read<TTable, TRow>(MibTableFunction get, ushort family, string failure)
        {
            List<TRow> rows = new List<TRow>();
            IntPtr table;
            uint error = get(family, out table);
            if (error == Functions.ErrorNotFound)
            {
                return rows;
            }
            Functions.Check(error, failure);
            try
            {
                uint count = (uint)Marshal.ReadInt32(table);
                IntPtr row = table + (int)Marshal.OffsetOf(typeof(TTable), "Table");
                int size = Marshal.SizeOf(typeof(TRow));
                for (uint i = 0; i < count; i++, row += size)
                {
                    rows.Add((TRow)Marshal.PtrToStructure(row, typeof(TRow)));
                }
            }
            finally
            {
                Functions.FreeMibTable(table);
            }
            return rows;
        }
    }
}
